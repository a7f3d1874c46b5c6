"""The networks that are measured. Not in ``served``, which the environments of other engines import, too."""

from pathlib import Path

import torch

from raylight.config.schema import ModelConfig
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork


def built(name: str, weights: Path) -> tuple[StagedNetwork, Preprocessing]:
    """Build a network of torchvision for a thousand classes and 224 pixels, and its preprocessing.

    Args:
        name: of the network.
        weights: folder of ``NAME.pt``; without the file, weights are random, the same each time.
    """
    file = weights / f"{name}.pt"
    settings = ModelConfig(
        name=name,
        family="torchvision",
        weights=str(file) if file.is_file() else None,
        image_size=224,
        resize="crop",
        normalize="imagenet",
    )
    torch.manual_seed(0)
    return build_network(settings, 1000), Preprocessing.from_config(settings)
