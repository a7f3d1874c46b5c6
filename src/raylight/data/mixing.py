"""Batch transforms that mix pictures and their classes: MixUp, CutMix, or a user's own, named in ``augment.batch``.

They work on normalised images on the network's device, after each image's own augmentation, and depend on (seed, epoch, batch)
alone. Several training processes each mix within their share of a batch.
"""

import hashlib
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from raylight.config.rules.nodes import batch_nodes, build_for_classes, said
from raylight.config.rules.shapes import Size, height_width
from raylight.config.schema import AugmentConfig
from raylight.errors import ConfigError


class Mixer:
    """One of several batch transforms, drawn for each batch.

    Args:
        config: its ``batch`` lists them; checked.
        n_classes: number of classes, handed over where a signature has a name for it.
        seed: the run's seed.

    Raises:
        ConfigError: one can't be built.
    """

    def __init__(self, config: AugmentConfig, n_classes: int, seed: int) -> None:
        self.seed = seed
        self._transforms: list[tuple[str, Any]] = []
        for key, node in batch_nodes(config):
            self._transforms.append((f"{key}: {node['_target_']}", build_for_classes(key, node, n_classes)))

    def __bool__(self) -> bool:
        return bool(self._transforms)

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], targets: Int64[Tensor, " batch"], *place: int
    ) -> tuple[Float[Tensor, "batch 3 height width"], Shaped[Tensor, "batch ..."]]:
        """Mix a batch.

        Args:
            images: normalised.
            targets: class of each.
            place: epoch, batch, process; each gives another mixture.

        Returns:
            The mixed images, and the classes: shares of each, float[batch, class].

        Raises:
            ConfigError: a transform fails.
        """
        with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else ()):
            torch.manual_seed(_seed(self.seed, *place))
            name, transform = self._transforms[int(torch.randint(len(self._transforms), ()))]
            try:
                mixed, shares = transform(images, targets)
            except Exception as error:  # a user's transform may fail in any way
                raise ConfigError([f"{name} fails on a batch: {said(error)}"]) from error
        return mixed, shares


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest(), "little")


def check_mixing(config: AugmentConfig, seed: int, size: Size) -> None:
    """Try each batch transform on four random images of two classes, twice.

    Args:
        config: its ``batch`` is tried.
        seed: the run's seed.
        size: height and width of the network's images, in pixels.

    Raises:
        ConfigError: one can't be built, fails, can't be repeated, or gives something else than images and classes.
    """
    images = torch.rand(4, 3, *height_width(size), generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 0, 1])
    for place, (key, node) in enumerate(batch_nodes(config)):
        mixer = Mixer(AugmentConfig(batch=[node]), 2, seed)
        name = f"{key}: {node['_target_']}"
        twice = [mixer(images.clone(), targets.clone(), 0, place) for _ in range(2)]
        for mixed, shares in twice:
            if not isinstance(mixed, Tensor) or mixed.shape != images.shape or mixed.dtype != images.dtype:
                raise ConfigError([f"{name} gives no images float32{list(images.shape)} of images of that shape"])
            hard = isinstance(shares, Tensor) and shares.shape == (4,) and shares.dtype == torch.int64
            soft = (
                isinstance(shares, Tensor) and shares.shape == (4, 2) and torch.allclose(shares.sum(1), torch.ones(4))
            )
            if not hard and not soft:
                raise ConfigError(
                    [f"{name} gives no classes int64[batch], nor shares of classes float[batch, class] that sum to 1"]
                )
        if not all(torch.equal(one, other) for one, other in zip(*twice, strict=True)):
            raise ConfigError(
                [
                    f"{name} makes two batches of the same seed, epoch and batch; draw with torch's functions, which are seeded"
                ]
            )


def main_class(targets: Shaped[Tensor, "batch ..."]) -> Int64[Tensor, " batch"]:
    """The class with the largest share of each image, which metrics go by.

    >>> main_class(torch.tensor([[0.3, 0.7], [1.0, 0.0]])).tolist(), main_class(torch.tensor([1, 0])).tolist()
    ([1, 0], [1, 0])
    """
    return targets.argmax(1) if targets.ndim == 2 else targets
