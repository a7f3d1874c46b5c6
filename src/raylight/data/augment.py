"""Random augmentation per image, reproducible in any order and any thread.

torchvision's transforms draw from torch's global generator. Here the generator is seeded per image, by (seed, epoch, image):
neither the order of the images nor a prefetching thread changes an augmentation or the network's dropout.
"""

import copy
import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.overrides import TorchFunctionMode

from raylight.config.rules.nodes import build_node
from raylight.config.rules.shapes import Size, height_width
from raylight.errors import ConfigError, first_line

_TRIALS = 8
"""Times that the transforms are tried; enough for those that act with a probability."""


class LocalGenerator(TorchFunctionMode):
    """Makes torch's random functions draw from a given generator.

    A mode holds per thread (torch.overrides.TorchFunctionMode), so other threads keep the global generator. So do functions
    that accept no generator, or that draw inside another function of torch (dropout): ``check_augmentation`` finds them.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Passes the generator to random functions that were given none."""
        kwargs = dict(kwargs or {})
        if _draws(func):
            kwargs.setdefault("generator", self.generator)
        return func(*args, **kwargs)


@functools.cache
def _draws(func: Callable[..., Any]) -> bool:
    """Whether a function, such as ``torch.rand`` or ``Tensor.uniform_``, is an operator that takes a generator."""
    operator: Any = getattr(torch.ops.aten, getattr(func, "__name__", ""), None)
    if isinstance(func, FunctionType) or not hasattr(operator, "overloads"):
        return False
    return any(
        argument.name == "generator"
        for name in operator.overloads()
        for argument in getattr(operator, name)._schema.arguments
    )


class Augmenter:
    """Applies transforms to one image at a time, with a generator seeded per image.

    Args:
        transforms: functions of uint8[3, height, width], applied in order; with none, images stay unchanged.
        seed: the run's seed.
    """

    def __init__(self, transforms: Sequence[Callable[[Tensor], Tensor]], seed: int) -> None:
        self.transforms = tuple(transforms)
        self.seed = seed
        self._generator = torch.Generator()

    def __bool__(self) -> bool:
        return bool(self.transforms)

    def __call__(self, image: UInt8[Tensor, "3 height width"], key: str, epoch: int) -> UInt8[Tensor, "3 height width"]:
        """Augments an image.

        Args:
            image: the pixels, 0 to 255.
            key: content hash of the image.
            epoch: its number, or that of a view; each gives a different augmentation.

        Returns:
            The augmented image; the same for the same seed, key and epoch.
        """
        for changed in self.steps(image, key, epoch):
            image = changed
        return image

    def steps(self, image: UInt8[Tensor, "3 height width"], key: str, epoch: int) -> Iterator[Any]:
        """Augments an image step by step.

        Args:
            image: the pixels, 0 to 255.
            key: content hash of the image.
            epoch: its number, or that of a view.

        Yields:
            The image as it is, then the output of each transform.
        """
        digest = hashlib.blake2b(f"{self.seed}/{epoch}/{key}".encode(), digest_size=8).digest()
        self._generator.manual_seed(int.from_bytes(digest, "little"))
        yield image
        for transform in self.transforms:
            with LocalGenerator(self._generator):
                image = transform(image)
            yield image


def build_augmenter(nodes: Sequence[Any], seed: int) -> Augmenter:
    """Builds the transforms that a config lists.

    Args:
        nodes: ``_target_`` nodes, already checked.
        seed: the run's seed.

    Returns:
        An augmenter that applies them in order.

    Raises:
        ConfigError: a transform can't be built.
    """
    return Augmenter([build_node(_key(position), node) for position, node in enumerate(nodes)], seed)


def check_augmentation(nodes: Sequence[Any], seed: int, size: Size) -> None:
    """Tries the transforms on a random image, twice each time, to see whether their results can be repeated.

    Args:
        nodes: ``_target_`` nodes, already checked.
        seed: the run's seed.
        size: height and width of the network's images, in pixels.

    Raises:
        ConfigError: a transform can't be built or copied, fails, or gives different images for the same seed, epoch and image;
            or the result of all of them isn't an image of the same shape and type.
    """
    augmenter = build_augmenter(nodes, seed)
    for position, transform in enumerate(augmenter.transforms):
        try:
            copy.deepcopy(transform)
        except Exception as error:  # a user's transform may hold anything, such as a lock or an open file
            raise ConfigError(
                [
                    f"{_named(nodes, position)} can't be copied: {type(error).__name__}: {first_line(error)}. Each thread that "
                    "augments has a copy of its own; keep locks and open files out of transforms"
                ]
            ) from error
    image = torch.randint(
        0, 256, (3, *height_width(size)), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    for epoch in range(_TRIALS):
        first, second = (_outputs(nodes, augmenter.steps(image.clone(), "trial", epoch)) for _ in range(2))
        _check_outputs(nodes, image, first, second)


def _outputs(nodes: Sequence[Any], steps: Iterator[Any]) -> list[Any]:
    outputs: list[Any] = []
    try:
        # Copies, since the next transform may work in place.
        outputs.extend(step.clone() if isinstance(step, Tensor) else step for step in steps)
    except Exception as error:  # a user's transform may fail in any way
        raise ConfigError(
            [f"{_named(nodes, len(outputs) - 1)} fails on an image: {type(error).__name__}: {first_line(error)}"]
        ) from error
    return outputs


def _check_outputs(nodes: Sequence[Any], image: Tensor, first: Sequence[Any], second: Sequence[Any]) -> None:
    for position, (one, other) in enumerate(zip(first, second, strict=True)):
        if isinstance(one, Tensor) and not (isinstance(other, Tensor) and _equal(one, other)):
            raise ConfigError(
                [
                    f"{_named(nodes, position - 1)} gives different results for the same seed, epoch and image, so that no run "
                    "could be repeated; draw with torch's functions (torch.rand, ...), which are seeded per image, not with "
                    "Python's random or numpy, and keep no state between images"
                ]
            )
    last = first[-1]
    if not isinstance(last, Tensor) or last.shape != image.shape or last.dtype != image.dtype:
        kind = f"{last.dtype}{list(last.shape)}" if isinstance(last, Tensor) else type(last).__name__
        raise ConfigError(
            [
                f"augment.transforms: return {kind} for an image {image.dtype}{list(image.shape)}; shape and type must stay. "
                "Resizing and normalisation belong to the model (model.image_size, model.normalize)"
            ]
        )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _key(position: int) -> str:
    return f"augment.transforms[{position}]"


def _named(nodes: Sequence[Any], position: int) -> str:
    return f"{_key(position)}: {nodes[position]['_target_']}"
