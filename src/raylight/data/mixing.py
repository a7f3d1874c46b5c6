"""Batch transforms that mix images and their classes: MixUp, CutMix, or a user's own, named in ``augment.batch``.

They work on normalised images on the network's device, after the augmentation per image, and depend on (seed, epoch, batch)
alone. Of several training processes, each mixes within its share of a batch.
"""

import hashlib
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from raylight.config.rules.nodes import batch_nodes, build_for_classes, cause_text
from raylight.config.rules.shapes import Size, height_width
from raylight.config.schema import AugmentConfig
from raylight.errors import ConfigError


class Mixer:
    """Applies one of several batch transforms, drawn for each batch.

    Args:
        config: its ``batch`` lists them; already checked.
        n_classes: number of classes, passed to transforms whose signature has a parameter for it.
        seed: the run's seed.

    Raises:
        ConfigError: a transform can't be built.
    """

    def __init__(self, config: AugmentConfig, n_classes: int, seed: int) -> None:
        self.seed = seed
        self._transforms: list[tuple[str, Any]] = []
        for key, node in batch_nodes(config):
            self._transforms.append((f"{key}: {node['_target_']}", build_for_classes(key, node, n_classes)))

    def __bool__(self) -> bool:
        return bool(self._transforms)

    def __call__(
        self, images: Float[Tensor, "batch 3 height width"], targets: Int64[Tensor, " batch"], *step: int
    ) -> tuple[Float[Tensor, "batch 3 height width"], Shaped[Tensor, "batch ..."]]:
        """Mixes a batch.

        Args:
            images: normalised.
            targets: class number of each image.
            step: numbers of the epoch, batch and process; each combination gives a different mixture.

        Returns:
            The mixed images, and their targets: proportions of the classes, float[batch, class], or class numbers,
            int64[batch].

        Raises:
            ConfigError: a transform fails.
        """
        with torch.random.fork_rng(devices=[images.device] if images.device.type == "cuda" else ()):
            torch.manual_seed(_seed(self.seed, *step))
            name, transform = self._transforms[int(torch.randint(len(self._transforms), ()))]
            try:
                mixed, proportions = transform(images, targets)
            except Exception as error:  # a user's transform may fail in any way
                raise ConfigError([f"{name} fails on a batch: {cause_text(error)}"]) from error
        return mixed, proportions


def _seed(*numbers: int) -> int:
    return int.from_bytes(hashlib.blake2b(repr(numbers).encode(), digest_size=7).digest(), "little")


def check_mixing(config: AugmentConfig, seed: int, size: Size) -> None:
    """Tries each batch transform on four random images of two classes, twice.

    Args:
        config: its ``batch`` lists the transforms.
        seed: the run's seed.
        size: height and width of the network's images, in pixels.

    Raises:
        ConfigError: a transform can't be built, fails, gives different results for the same seed, or doesn't return images
            and targets.
    """
    images = torch.rand(4, 3, *height_width(size), generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 1, 0, 1])
    for position, (key, node) in enumerate(batch_nodes(config)):
        mixer = Mixer(AugmentConfig(batch=[node]), 2, seed)
        name = f"{key}: {node['_target_']}"
        results = [mixer(images.clone(), targets.clone(), 0, position) for _ in range(2)]
        for mixed, new in results:
            if not isinstance(mixed, Tensor) or mixed.shape != images.shape or mixed.dtype != images.dtype:
                raise ConfigError([f"{name} must return images of the shape and type it is given, float32[4, 3, ...]"])
            hard = isinstance(new, Tensor) and new.shape == (4,) and new.dtype == torch.int64
            soft = isinstance(new, Tensor) and new.shape == (4, 2) and torch.allclose(new.sum(1), torch.ones(4))
            if not hard and not soft:
                raise ConfigError(
                    [
                        f"{name} must return targets int64[batch], or proportions of the classes, float[batch, class], which "
                        "sum to 1"
                    ]
                )
        if not all(torch.equal(one, other) for one, other in zip(*results, strict=True)):
            raise ConfigError(
                [
                    f"{name} gives different results for the same seed, epoch and batch; draw with torch's functions, which "
                    "are seeded"
                ]
            )


def main_class(targets: Shaped[Tensor, "batch ..."]) -> Int64[Tensor, " batch"]:
    """The class with the largest proportion per image, which metrics count.

    Args:
        targets: proportions of the classes, float[batch, class], or class numbers, int64[batch].

    Returns:
        Class numbers.

    Example:
        >>> main_class(torch.tensor([[0.3, 0.7], [1.0, 0.0]])).tolist(), main_class(torch.tensor([1, 0])).tolist()
        ([1, 0], [1, 0])
    """
    return targets.argmax(1) if targets.ndim == 2 else targets
