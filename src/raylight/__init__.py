"""Raylight: config-driven image-classification experiments.

Hydra chooses, Ray Data decodes, Lightning trains, W&B shows. Importing this package imports nothing heavy.
"""

__version__ = "0.1.0"
