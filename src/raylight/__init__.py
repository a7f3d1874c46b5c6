"""Raylight: config-driven image-classification experiments.

Hydra chooses, Ray Data decodes, Lightning trains, W&B shows. Importing this package imports nothing heavy.

From Python::

    import raylight

    run = raylight.train("model=resnet18", "data=xray")
    run.metrics["test/accuracy"]
    raylight.compare([run, raylight.load("outputs/xray-cnn5/2026-01-31_12-00-00-ab12cd")])

Mistakes raise ``raylight.RaylightError``, with the text that a command would print.
"""

from raylight.api import Comparison, Run, audit, compare, load, rank, train
from raylight.errors import RaylightError

__version__ = "0.1.0"
__all__ = ["Comparison", "RaylightError", "Run", "audit", "compare", "load", "rank", "train"]
