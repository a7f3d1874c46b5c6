"""Is an image like those that a network has learnt from? The distance of its features to those of training images.

The features are what enters the classifier head, scaled to length 1; an image is familiar where its k-th nearest training image
is no farther away than that of most validation images (Sun, Ming, Zhu and Li, "Out-of-distribution detection with deep nearest
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
"""k, of at least ten times as many training images; fewer of smaller sets."""

MOST = 2000
"""Training images whose features are kept, drawn at random from more."""


@dataclass(frozen=True, eq=False)
class Familiarity:
    """Features of training images, and how near to them an image has to be.

    Attributes:
        features: float32, of length 1.
        neighbours: k.
        limit: largest distance of a familiar image to its k-th nearest neighbour.
    """

    features: Float[np.ndarray, "image feature"]
    neighbours: int
    limit: float

    def familiar(self, features: Float[np.ndarray, "image ..."]) -> Bool[np.ndarray, " image"]:
        """Whether each image is near enough.

        Args:
            features: of the images, as they enter the head.
        """
        near: Bool[np.ndarray, " image"] = distances(self.features, features, self.neighbours) <= self.limit
        return near

    def write(self, path: Path) -> None:
        """Write it as safetensors, features in float16."""
        from safetensors.numpy import save

        about = {"neighbours": str(self.neighbours), "limit": repr(self.limit)}
        write_atomically(path, save({"features": self.features.astype(np.float16)}, about))

    @classmethod
    def read(cls, path: Path) -> "Familiarity":
        """Read what ``write`` wrote.

        Raises:
            OSError: it can't be read.
            ValueError: it isn't such a file.
        """
        from safetensors.numpy import load

        content = path.read_bytes()
        try:
            about = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])["__metadata__"]
            return cls(load(content)["features"].astype(np.float32), int(about["neighbours"]), float(about["limit"]))
        except Exception as error:  # safetensors has errors of its own
            raise ValueError(f"{path} doesn't hold features of training images: {error}") from error


def fit(
    train: Float[np.ndarray, "image ..."], val: Float[np.ndarray, "other_image ..."], refused: float
) -> Familiarity | None:
    """The limit that at most ``refused`` of further images like those of validation exceed.

    The limit is the conformal quantile of validation's distances, so that the promise holds on average over validation sets,
    whatever the distances' distribution.

    Args:
        train: features of training images.
        val: features of validation images, which the network hasn't learnt from.
        refused: share of familiar images that may be refused, above 0.

    Returns:
        None where validation has too few images: fewer than 1 / ``refused`` - 1.
    """
    rank = math.ceil((len(val) + 1) * (1 - refused) - 1e-9)
    if rank > len(val):
        return None
    # Rounded as they are kept, so that a reader computes the same distances.
    kept = unit(train).astype(np.float16).astype(np.float32)
    neighbours = max(1, min(NEIGHBOURS, len(kept) // NEIGHBOURS))
    return Familiarity(kept, neighbours, float(np.sort(distances(kept, val, neighbours))[rank - 1]))


def fewest(refused: float) -> int:
    """Validation images that ``fit`` needs.

    Example:
        >>> fewest(0.05), fewest(0.01)
        (19, 99)
    """
    return math.ceil(1 / refused - 1e-9) - 1


def distances(
    known: Float[np.ndarray, "image feature"], features: Float[np.ndarray, "other_image ..."], neighbours: int
) -> Float[np.ndarray, " other_image"]:
    """Distance of each image's features, scaled to length 1, to the k-th nearest of the known ones; 0 to 2.

    Args:
        known: of length 1.
        features: of other images; those with a height and a width are averaged over both.
        neighbours: k, at most the number of known images.
    """
    if not len(features):
        return np.zeros(0, np.float32)
    found = []
    for block in np.array_split(features, max(1, len(features) // 256)):
        products = unit(block) @ known.T
        nearest = np.partition(products, -neighbours, axis=1)[:, -neighbours]
        found.append(np.sqrt(np.maximum(2 - 2 * nearest, 0)))
    return np.concatenate(found)


def nearest(
    known: Iterable[Float[np.ndarray, "image ..."]], features: Float[np.ndarray, "other_image ..."], count: int
) -> Int64[np.ndarray, "other_image count"]:
    """Positions of the nearest known images, the nearest first, by the same distance.

    Args:
        known: features of the known images, as they enter the head, block by block, so that they needn't fit into memory.
        features: of other images.
        count: how many; as many as there are known ones, if these are fewer.
    """
    asked, seen = unit(features), 0
    products: Float[np.ndarray, "other_image found"] = np.zeros((len(asked), 0), np.float32)
    positions: Int64[np.ndarray, "other_image found"] = np.zeros((len(asked), 0), np.int64)
    for block in known:
        new = np.broadcast_to(seen + np.arange(len(block)), (len(asked), len(block)))
        products = np.concatenate([products, asked @ unit(block).T], axis=1)
        positions = np.concatenate([positions, new], axis=1)
        seen += len(block)
        best = np.argsort(-products, axis=1, kind="stable")[:, :count]
        products, positions = np.take_along_axis(products, best, 1), np.take_along_axis(positions, best, 1)
    return positions


def unit(features: Float[np.ndarray, "image ..."]) -> Float[np.ndarray, "image feature"]:
    """Features scaled to length 1; those with a height and a width are averaged over both first."""
    flat = features.reshape(len(features), features.shape[1], -1).mean(axis=2, dtype=np.float32)
    lengths = np.linalg.norm(flat, axis=1, keepdims=True)
    scaled: Float[np.ndarray, "image feature"] = flat / np.maximum(lengths, 1e-12)
    return scaled
