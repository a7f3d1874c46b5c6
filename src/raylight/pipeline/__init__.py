"""From a checked config to a finished run; imports all other packages.

``costs``     seconds of each stage
``job``       a Hydra job or a resumed run, recorded in its folder
``extension`` more epochs for a run
``run``       the stages, in order
``images``    files, index, split, decode, cache: the images of a run, test images only once training has ended
``learner``   the network, how the processor runs it, its batches and cached features
``judge``     evaluation of the chosen checkpoint on test, and everything written about it

Heavy packages are imported when their stage begins, so that a bad config fails at once.
"""
