"""What a finished run is good for: judging it again, predicting with it, exporting it, showing it.

Everything here works from the run folder alone; the images it was trained on may be gone.
"""
