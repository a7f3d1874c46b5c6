"""Random augmentation per image, reproducible in any order and any thread.

torchvision's transforms draw from torch's global generator. Here each image has a generator of its own, seeded by
(seed, epoch, image): neither the order of images nor a prefetching thread changes an augmentation or the network's
dropout.
"""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = frozenset(
    {
        torch.rand,
        torch.randn,
        torch.randint,
        torch.randperm,
        torch.bernoulli,
        torch.multinomial,
        torch.normal,
        Tensor.uniform_,
        Tensor.normal_,
        Tensor.random_,
        Tensor.bernoulli_,
        Tensor.exponential_,
    }
)


class LocalGenerator(TorchFunctionMode):
    """Makes torch's random functions draw from a given generator.

    Modes are per thread (torch.overrides.TorchFunctionMode), so other threads keep the global generator.
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
        if func in _DRAWS:
            kwargs.setdefault("generator", self.generator)
        return func(*args, **kwargs)


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
        digest = hashlib.blake2b(f"{self.seed}/{turn}/{key}".encode(), digest_size=8).digest()
        self._generator.manual_seed(int.from_bytes(digest, "little"))
        with LocalGenerator(self._generator):
            for transform in self.transforms:
                image = transform(image)
        return image


def build_augmenter(nodes: Sequence[Any], seed: int) -> Augmenter:
    """Builds the transforms that a config lists.

    Args:
        nodes: ``_target_`` nodes, already checked.
        seed: the run's seed.
    """
    from hydra.utils import instantiate

    return Augmenter([instantiate(node) for node in nodes], seed)
