"""A run's model in one file for other programs: ONNX, torch.export, or a page for browsers.

Resizing, normalisation, network, calibration and the distance from the training images are inside; decoding a file to pixels
is left to the program.
"""
