"""Features of all images of a data set by a pretrained network, as ``raylight rank`` caches them; the studies' arguments."""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from raylight.pipeline.probing.networks import Candidate
from raylight.pipeline.probing.probes import probe_of, probed_images
from raylight.pipeline.probing.settings import probe_configs

NETWORKS = ("mobilenet_v2", "resnet18")


@dataclass(frozen=True, eq=False)
class Features:
    """The features of all usable images.

    Attributes:
        features: inputs of the head.
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


def arguments(about: str | None, *more: str) -> argparse.Namespace:
    """Parse the arguments that both studies take.

    Args:
        about: what the study does.
        more: names of further optional folders.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    for name in more:
        parser.add_argument(name, type=Path)
    return parser.parse_args()


def photo_features(photos: Path, network: str, weights: Path) -> Features:
    """The features of the photos of cats and dogs."""
    return features_of([f"data.root={photos}", "data=catsdogs"], network, weights)
