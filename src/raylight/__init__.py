"""Raylight: config-driven image-classification experiments.

Hydra chooses, Ray Data decodes, Lightning trains, W&B shows. Importing this package imports nothing heavy.

From Python::

    import raylight

    run = raylight.train("model=resnet18", "data=xray")
    run.metrics["test/accuracy"]
    raylight.compare([run, raylight.load("outputs/xray-cnn5/2026-01-31_12-00-00-ab12cd")])
"""

from raylight.api import Comparison, Run, audit, compare, load, rank, train

__version__ = "0.1.0"
__all__ = ["Comparison", "Run", "audit", "compare", "load", "rank", "train"]
