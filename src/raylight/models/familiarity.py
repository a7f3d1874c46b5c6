"""Out-of-distribution detection by the distance of an image's features to those of training images.

The features are the input of the classifier head, scaled to length 1; an image is familiar if its k-th nearest training image
is no farther away than for most validation images (Sun, Ming, Zhu and Li, "Out-of-distribution detection with deep nearest
neighbors", ICML 2022). ``experiments/unknown`` compares it with the Mahalanobis distance (Lee et al. 2018).
"""

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int64

from raylight.storage.atomic import write_atomically

FILE = "familiarity.safetensors"

NEIGHBOURS = 10
"""k; less where there are fewer than ten times as many training images."""

MAX_KEPT = 2000
"""Maximum number of training images whose features are kept; drawn at random from more."""


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Features of training images, and the distance from them within which an image is familiar.

    Attributes:
        features: float32, each of length 1.
        neighbours: k.
        limit: largest distance of a familiar image to its k-th nearest neighbour, 0 to 2.
    """

    features: Float[np.ndarray, "image feature"]
    neighbours: int
    limit: float

    def familiar(self, features: Float[np.ndarray, "image ..."]) -> Bool[np.ndarray, " image"]:
        """Tells which images are familiar.

        Args:
            features: of the images, as they enter the head.

        Returns:
            Whether each image is within the limit.
        """
        familiar: Bool[np.ndarray, " image"] = distances(self.features, features, self.neighbours) <= self.limit
        return familiar

    def write(self, path: Path) -> None:
        """Writes it to a safetensors file, the features in float16."""
        from safetensors.numpy import save

        metadata = {"neighbours": str(self.neighbours), "limit": repr(self.limit)}
        write_atomically(path, save({"features": self.features.astype(np.float16)}, metadata))

    @classmethod
    def read(cls, path: Path) -> "Familiarity":
        """Reads a file written by ``write``.

        Args:
            path: of the file.

        Returns:
            What was written.

        Raises:
            OSError: the file can't be read.
            ValueError: it isn't such a file.
        """
        from safetensors.numpy import load

        content = path.read_bytes()
        try:
            metadata = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
            features = load(content)["features"].astype(np.float32)
            return cls(features, int(metadata["neighbours"]), float(metadata["limit"]))
        except Exception as error:  # safetensors has errors of its own
            raise ValueError(f"{path} doesn't hold features of training images: {error}") from error


def fit(
    train: Float[np.ndarray, "image ..."], val: Float[np.ndarray, "other_image ..."], refused: float
) -> Familiarity | None:
    """Chooses the limit so that at most a given share of images like those of validation exceed it.

    The limit is the conformal quantile of the distances of the validation images, so the share holds on average over validation
    sets, whatever the distribution of the distances.

    Args:
        train: features of training images.
        val: features of validation images, which the network hasn't learnt from.
        refused: share of familiar images that may be refused, above 0.

    Returns:
        The features and the limit; ``None`` where there are too few validation images (``min_validation_images``).
    """
    rank = math.ceil((len(val) + 1) * (1 - refused) - 1e-9)
    if rank > len(val):
        return None
    # Rounded as in the file, so that a reader computes the same distances.
    kept = unit_vectors(train).astype(np.float16).astype(np.float32)
    neighbours = max(1, min(NEIGHBOURS, len(kept) // NEIGHBOURS))
    return Familiarity(kept, neighbours, float(np.sort(distances(kept, val, neighbours))[rank - 1]))


def min_validation_images(refused: float) -> int:
    """The number of validation images that ``fit`` needs.

    Args:
        refused: share of familiar images that may be refused, above 0.

    Returns:
        1 / ``refused`` - 1, rounded up.

    Example:
        >>> min_validation_images(0.05), min_validation_images(0.01)
        (19, 99)
    """
    return math.ceil(1 / refused - 1e-9) - 1


def distances(
    known: Float[np.ndarray, "image feature"], features: Float[np.ndarray, "other_image ..."], neighbours: int
) -> Float[np.ndarray, " other_image"]:
    """Computes the distance of each image's features, scaled to length 1, to the k-th nearest of the known ones.

    Args:
        known: features of the known images, each of length 1.
        features: of other images; those with a height and a width are averaged over both.
        neighbours: k, at most the number of known images.

    Returns:
        Distances, 0 to 2.
    """
    if not len(features):
        return np.zeros(0, np.float32)
    found = []
    for block in np.array_split(features, max(1, len(features) // 256)):
        products = unit_vectors(block) @ known.T
        kth = np.partition(products, -neighbours, axis=1)[:, -neighbours]
        found.append(np.sqrt(np.maximum(2 - 2 * kth, 0)))
    return np.concatenate(found)


def nearest_images(
    known: Iterable[Float[np.ndarray, "image ..."]], features: Float[np.ndarray, "other_image ..."], count: int
) -> Int64[np.ndarray, "other_image count"]:
    """Finds the known images that are nearest to other images, by the distance of ``distances``.

    Args:
        known: features of the known images, as they enter the head, block by block, so that they needn't fit into memory.
        features: of the other images.
        count: number of known images to find.

    Returns:
        Positions of the known images, the nearest first; fewer than ``count`` if there are fewer.
    """
    vectors, seen = unit_vectors(features), 0
    products: Float[np.ndarray, "other_image found"] = np.zeros((len(vectors), 0), np.float32)
    positions: Int64[np.ndarray, "other_image found"] = np.zeros((len(vectors), 0), np.int64)
    for block in known:
        new = np.broadcast_to(seen + np.arange(len(block)), (len(vectors), len(block)))
        products = np.concatenate([products, vectors @ unit_vectors(block).T], axis=1)
        positions = np.concatenate([positions, new], axis=1)
        seen += len(block)
        best = np.argsort(-products, axis=1, kind="stable")[:, :count]
        products, positions = np.take_along_axis(products, best, 1), np.take_along_axis(positions, best, 1)
    return positions


def unit_vectors(features: Float[np.ndarray, "image ..."]) -> Float[np.ndarray, "image feature"]:
    """Features scaled to length 1; those with a height and a width are averaged over both first."""
    flat = features.reshape(len(features), features.shape[1], -1).mean(axis=2, dtype=np.float32)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    scaled: Float[np.ndarray, "image feature"] = flat / np.maximum(lengths, 1e-12)
    return scaled
