"""Random augmentation per image, reproducible in any order and any thread.

torchvision's transforms draw from torch's global generator. Here each image has a generator of its own, seeded by
(seed, epoch, image): neither the order of images nor a prefetching thread changes an augmentation or the network's
dropout.
"""

import functools
import hashlib
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.overrides import TorchFunctionMode

from raylight.config.rules.shapes import Size, height_width
from raylight.errors import ConfigError, first_line

_DRAWS = 8
"""Pictures of one image on which each transform is tried; enough for those that act now and then."""


class LocalGenerator(TorchFunctionMode):
    """Makes torch's random functions draw from a given generator.

    Modes are per thread (torch.overrides.TorchFunctionMode), so other threads keep the global generator. So do draws that take
    no generator, or that lie within another of torch's functions (dropout): ``check_augmentation`` finds them.
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
    """Applies transforms to one image at a time, each image with a generator of its own.

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

    def __call__(self, image: UInt8[Tensor, "3 height width"], key: str, turn: int) -> UInt8[Tensor, "3 height width"]:
        """Augments an image.

        Args:
            image: the pixels.
            key: content hash of the image.
            turn: epoch or view; each gives a different augmentation.

        Returns:
            The augmented image; the same for the same seed, key and turn.
        """
        for changed in self.steps(image, key, turn):
            image = changed
        return image

    def steps(self, image: UInt8[Tensor, "3 height width"], key: str, turn: int) -> Iterator[Any]:
        """The picture as it is, and what each transform in turn makes of it."""
        digest = hashlib.blake2b(f"{self.seed}/{turn}/{key}".encode(), digest_size=8).digest()
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
    """
    from hydra.utils import instantiate

    # Plain lists: transforms such as RandomOrder index theirs with tensors.
    return Augmenter([instantiate(node, _convert_="all") for node in nodes], seed)


def check_augmentation(nodes: Sequence[Any], seed: int, size: Size) -> None:
    """Try the transforms on a drawn picture, each picture twice: what can't be repeated isn't trained with.

    Args:
        nodes: ``_target_`` nodes, already checked.
        seed: the run's seed.
        size: height and width of the network's images, in pixels.

    Raises:
        ConfigError: a transform fails, or gives another picture for the same seed, epoch and image; or what all of them make
            isn't a picture of the same shape.
    """
    for place, node in enumerate(nodes):
        try:
            build_augmenter([node], seed)
        except Exception as error:  # whatever a class says of its arguments, within the pages that Hydra puts around it
            cause = error.__cause__ or error
            raise ConfigError(
                [f"{_named(nodes, place)} can't be built: {type(cause).__name__}: {first_line(cause)}"]
            ) from error
    augmenter = build_augmenter(nodes, seed)
    picture = torch.randint(
        0, 256, (3, *height_width(size)), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    for turn in range(_DRAWS):
        steps = augmenter.steps(picture.clone(), "try", turn), augmenter.steps(picture.clone(), "try", turn)
        _check_step(nodes, picture, [_run(nodes, one) for one in steps])


def _run(nodes: Sequence[Any], steps: Iterator[Any]) -> list[Any]:
    made: list[Any] = []
    try:
        # Copies, since a transform may change what it was given.
        made.extend(step.clone() if isinstance(step, Tensor) else step for step in steps)
    except Exception as error:  # whatever a transform runs into
        raise ConfigError(
            [f"{_named(nodes, len(made) - 1)} fails on a picture: {type(error).__name__}: {first_line(error)}"]
        ) from error
    return made


def _check_step(nodes: Sequence[Any], picture: Tensor, twice: Sequence[Sequence[Any]]) -> None:
    for place, (one, other) in enumerate(zip(*twice, strict=True)):
        if isinstance(one, Tensor) and not (isinstance(other, Tensor) and _equal(one, other)):
            raise ConfigError(
                [
                    f"{_named(nodes, place - 1)} makes two pictures of the same seed, epoch and image, so that no run could be "
                    "repeated; draw with torch's functions (torch.rand, ...), which are seeded for each image, not with "
                    "Python's random or numpy, and keep nothing from one image to the next"
                ]
            )
    last = twice[0][-1]
    if not isinstance(last, Tensor) or last.shape != picture.shape or last.dtype != picture.dtype:
        what = f"{last.dtype}{list(last.shape)}" if isinstance(last, Tensor) else type(last).__name__
        raise ConfigError(
            [
                f"augment.transforms: make a {what} of a picture {picture.dtype}{list(picture.shape)}, but must give one of "
                "its shape and type; resizing and normalisation are the model's (model.image_size, model.normalize)"
            ]
        )


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)


def _named(nodes: Sequence[Any], place: int) -> str:
    return f"augment.transforms[{place}]: {nodes[place]['_target_']}"
