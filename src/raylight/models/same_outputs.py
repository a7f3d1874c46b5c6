"""Whether a sequence of modules computes what a network computes, in evaluation and in training.

In eval mode dropout does nothing, so that a sequence which applies it elsewhere, or not at all, would go unnoticed. Leaves out
which sequences are tried (``models.stages``).
"""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylight.config.rules.shapes import Size, height_width
from raylight.process import random_numbers

_LIBRARIES = ("timm", "torchvision")


@dataclass(frozen=True)
class Outputs:
    """What a network computes for some images.

    Attributes:
        images: normalised images.
        evaluated: its output in eval mode.
        trained: its output in training mode; None if it fails there.
        from_library: whether the network is one of torchvision's or timm's.
    """

    images: Float[Tensor, "image 3 height width"]
    evaluated: Float[Tensor, "image output"]
    trained: Any
    from_library: bool

    @classmethod
    def of(cls, network: nn.Module, images: Float[Tensor, "image 3 height width"]) -> "Outputs":
        """The outputs of a network within ``comparable``.

        Args:
            network: in eval mode.
            images: normalised images.

        Returns:
            Its outputs.
        """
        from_library = type(network).__module__.split(".")[0] in _LIBRARIES
        return cls(images, network(images.clone()), _in_training(network, network, images), from_library)

    def are_those_of(self, modules: nn.Module, run: Callable[[Tensor], Tensor | None]) -> bool:
        """Whether other modules give the same outputs, bit for bit, in both modes.

        Args:
            modules: hold all that runs; in eval mode.
            run: gives their output.

        Returns:
            False, too, where the outputs in training mode can't be compared.
        """
        if not _equal(run(self.images.clone()), self.evaluated):
            return False
        trained, expected = _in_training(modules, run, self.images), self.trained
        if isinstance(expected, tuple | list) and expected:  # the logits, and those of auxiliary classifiers
            if self.from_library:
                # Auxiliary classifiers draw random numbers for dropout of their own, so that the logits can't compare equal.
                # torchvision's networks with such classifiers define their dropout where it runs.
                return isinstance(trained, Tensor)
            expected = expected[0]
        return _equal(trained, expected)


def random_images(size: Size) -> Float[Tensor, "2 3 height width"]:
    """Makes two images, always the same.

    Args:
        size: height and width in pixels.

    Returns:
        Values between -1 and 1.
    """
    return torch.rand(2, 3, *height_width(size), generator=torch.Generator().manual_seed(0)) * 2 - 1


def run_stages(
    network: nn.Module, added: Mapping[str, nn.Module], names: Sequence[str], values: Tensor
) -> Tensor | None:
    """Runs modules of a network one after the other.

    Args:
        network: holds the modules that aren't in ``added``.
        added: further modules by name.
        names: of the modules, in the order in which they run.
        values: the input of the first.

    Returns:
        The output of the last; None if the shapes don't fit: the network doesn't run in this order.
    """
    for name in names:
        try:
            values = (added[name] if name in added else network.get_submodule(name))(values)
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, AssertionError, AttributeError):
            return None
    return values


@contextmanager
def comparable(network: nn.Module) -> Iterator[None]:
    """Makes wrong sequences of modules give outputs different from the network's.

    The network is in eval mode, but BatchNorm uses (and doesn't keep) the statistics of the batch: otherwise the signal of a
    randomly initialised deep network would vanish or overflow. No parameter is zero everywhere: otherwise all outputs of a
    network whose classifier is initialised with zeros would be equal.
    """
    zeros = [parameter for parameter in network.parameters() if not parameter.any()]
    modes = [(module, module.training) for module in network.modules()]
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    tracking = [norm.track_running_stats for norm in norms]
    network.eval()
    for norm in norms:
        norm.training, norm.track_running_stats = True, False
    for parameter in zeros:
        parameter.data = torch.linspace(-0.1, 0.1, parameter.numel(), dtype=parameter.dtype).reshape(parameter.shape)
    try:
        yield
    finally:
        for parameter in zeros:
            parameter.data = torch.zeros_like(parameter)
        for module, mode in modes:
            module.training = mode
        for norm, tracked in zip(norms, tracking, strict=True):
            norm.track_running_stats = tracked


def _equal(found: object, expected: object) -> bool:
    return isinstance(found, Tensor) and isinstance(expected, Tensor) and torch.equal(found, expected)


def _in_training(modules: nn.Module, run: Callable[[Tensor], Any], images: Tensor) -> Any:
    """Runs modules in training mode, with the same random numbers each time; modes, buffers and generators stay as they are.

    Returns:
        The output; None if it fails.
    """
    modes = [(module, module.training) for module in modules.modules()]
    # Spectral norms and the like change their buffers in training, in place or by assigning new ones.
    buffers = [
        (module, name, buffer, buffer.clone())
        for module in modules.modules()
        for name, buffer in module._buffers.items()
        if buffer is not None
    ]
    try:
        modules.train()
        with random_numbers():
            torch.manual_seed(0)
            random.seed(0)
            np.random.seed(0)
            return run(images.clone())
    except Exception:  # a user's network may fail in any way
        return None
    finally:
        for module, mode in modes:
            module.training = mode
        for module, name, buffer, values in buffers:
            module._buffers[name] = buffer.copy_(values)
