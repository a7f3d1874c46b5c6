"""Features of all images of a set by a pretrained network, as ``raylight rank`` keeps them."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raylight.pipeline.probing.networks import Candidate
from raylight.pipeline.probing.probes import probe_of, probed_images
from raylight.pipeline.probing.settings import probe_configs


@dataclass(frozen=True, eq=False)
class Features:
    """Of every usable image.

    Attributes:
        features: what enters the head.
        targets: class numbers.
        groups: group numbers.
        n_classes: number of classes.
    """

    features: np.ndarray
    targets: np.ndarray
    groups: np.ndarray
    n_classes: int


def features_of(settings: list[str], network: str, weights: Path) -> Features:
    """Compute them, or read them from the cache.

    Args:
        settings: of the data.
        network: its name.
        weights: folder with its file.
    """
    (config,) = probe_configs(settings, [Candidate(network, "torchvision", str(weights / f"{network}.pt"))])
    with probed_images([config], with_test=True) as images:
        probe = probe_of(config, images, 0, lambda done, total: None)
        every = np.arange(len(images.part))
        return Features(probe.features(every), images.targets, images.groups, len(images.part.class_names))
