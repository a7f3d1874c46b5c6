"""Convolutions in int8: ranges of activations measured on images, uint8 activations, int8 weights.

Covers networks, or their beginnings, in which convolutions follow each other, with residual sums and max-pooling between them:
from the pixels on, activations stay uint8. Whatever doesn't take uint8, such as squeeze-and-excitation, and all after it, is
left in bfloat16. Leaves out finding convolutions (``fusing``) and micro-batches (``program``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, fx, nn

from raylight.cpu.convolution import Activation, FusedConvolution
from raylight.cpu.depthwise import DepthwiseConvolution, compiled
from raylight.cpu.fusing import module_of
from raylight.machine import processor_flags

SATURATING = ("none", "relu", "hardtanh")
"""Activations that uint8 computes by itself, since it has no values outside of the range."""

ACTIVATIONS = (*SATURATING, "swish", "hardswish")
"""Activations that oneDNN's int8 convolution has."""

PIXEL_ZERO = 128
"""Pixels enter as they are; the first convolution was made for pixels minus this."""

ITEM_SIZE = "item size"
"""Key of a node's ``meta``: bytes per number of its value, where that isn't the type of the whole graph."""


def int8_supported() -> bool:
    """Whether the processor multiplies int8 with a single instruction; emulated, it is slower than bfloat16."""
    return bool(processor_flags() & {"avx512_vnni", "avx_vnni", "amx_int8"})


@dataclass(frozen=True)
class Scale:
    """How uint8 stands for real numbers: ``(integer - zero) * step``.

    Attributes:
        step: the difference of two neighbouring numbers.
        zero: the integer that stands for 0.
    """

    step: float
    zero: int

    @classmethod
    def of_range(cls, low: float, high: float) -> "Scale":
        """The scale that represents a range, and 0 exactly.

        Example:
            >>> Scale.of_range(0.0, 6.0).zero, Scale.of_range(-1.0, 1.0).zero
            (0, 128)
        """
        low, high = min(low, 0.0), max(high, 0.0)
        step = max(high - low, 1e-12) / 255
        return cls(step, round(-low / step))


class QuantisedConvolution(nn.Module):
    """A convolution of uint8 values, with the residual sum and the activation that follow.

    The operators of ``torch.ops.onednn`` are those that torch's own compiler uses for this.

    Args:
        conv: the convolution in float32, not packed yet.
        taken: scale of its input.
        given: scale of its output; ``None`` makes it bfloat16.
        other: scale of the residual, which is overwritten; ``None`` if there is none.
    """

    def __init__(self, conv: FusedConvolution, taken: Scale, given: Scale | None, other: Scale | None) -> None:
        super().__init__()
        weight = conv.weight.detach().float()
        self.step = weight.abs().amax((1, 2, 3)).clamp_min(1e-12) / 127
        self.zero = torch.zeros(len(weight), dtype=torch.int64)
        self.weight = (weight / self.step.reshape(-1, 1, 1, 1)).round().to(torch.int8)
        self.bias = torch.zeros(len(weight)) if conv.bias is None else conv.bias.detach().float()
        self.geometry = (conv.stride, conv.padding, conv.dilation, conv.groups)
        self.input_shape = conv.input_shape
        self.taken, self.given, self.other = taken, given, other
        saturates = given is not None and given.zero == 0 and conv.activation.name in SATURATING
        self.activation = Activation() if saturates else conv.activation

    def depthwise(self) -> DepthwiseConvolution | None:
        """This convolution by the kernel for depthwise ones; ``None`` where it is another kind, or there is no such kernel."""
        stride, padding, dilation, groups = self.geometry
        fits = (
            groups == len(self.weight) == self.input_shape[1]
            and self.weight.shape[2:] == (3, 3)
            and (padding, dilation) == ([1, 1], [1, 1])
            and stride in ([1, 1], [2, 2])
            and self.taken.zero == 0
            and self.activation.name == "none"
            and self.other is None
        )
        library = compiled() if fits and self.given is not None else None
        if library is None or self.given is None:
            return None
        scale = self.step * (self.taken.step / self.given.step)
        bias = self.bias / self.given.step + self.given.zero
        return DepthwiseConvolution(library, self.weight, scale, bias, stride[0])

    def pack(self, micro_batch: int) -> None:
        """Converts the weights to the kernel's memory layout for a size of micro-batches; once, at the end."""
        self.weight = torch.ops.onednn.qconv_prepack(
            self.weight,
            self.step,
            self.taken.step,
            self.taken.zero,
            *self.geometry,
            [micro_batch, *self.input_shape[1:]],
        )

    def forward(self, values: UInt8[Tensor, "..."], other: UInt8[Tensor, "..."] | None = None) -> Tensor:
        """Computes the convolution, adds the residual and applies the activation.

        Args:
            values: the input.
            other: the residual, which is overwritten; ``None`` if there is none.

        Returns:
            uint8, or bfloat16 for an output without scale.
        """
        given, activation = self.given or Scale(1.0, 0), self.activation
        taken = (values, self.taken.step, self.taken.zero, self.weight, self.step, self.zero)
        result = (given.step, given.zero, torch.bfloat16 if self.given is None else torch.uint8)
        unary = (activation.name, list(activation.scalars), activation.algorithm)
        operator = torch.ops.onednn.qconv2d_pointwise
        if other is None:
            return cast("Tensor", operator(*taken, self.bias, *self.geometry, *result, *unary))
        scale = self.other or Scale(1.0, 0)
        summed = (scale.step, scale.zero, "sum", 1.0)
        return cast("Tensor", operator.binary(*taken, other, self.bias, *self.geometry, *result, *summed, *unary))


class _MaxPool(nn.Module):
    """Max-pooling of uint8 values, for which torch has no kernel: the maximum of shifted rows, then of shifted columns."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.size, self.stride, self.padding = (_pair(each) for each in (pool.kernel_size, pool.stride, pool.padding))

    def forward(self, values: UInt8[Tensor, "..."]) -> UInt8[Tensor, "..."]:
        for axis, size, stride, padding in zip((2, 3), self.size, self.stride, self.padding, strict=True):
            padded = nn.functional.pad(values, [0, 0, padding, padding] if axis == 2 else [padding, padding])
            count = (padded.shape[axis] - size) // stride + 1
            parts = [padded.narrow(axis, first, stride * (count - 1) + 1) for first in range(size)]
            parts = [part[:, :, ::stride] if axis == 2 else part[..., ::stride] for part in parts]
            values = parts[0]
            for part in parts[1:]:
                values = torch.maximum(values, part)
        return values


class _Dequantise(nn.Module):
    def __init__(self, scale: Scale) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, values: UInt8[Tensor, "..."]) -> Float[Tensor, "..."]:
        return ((values.float() - self.scale.zero) * self.scale.step).to(torch.bfloat16)


class _Observer(fx.Interpreter):
    """Records the smallest and largest value of each convolution's output."""

    def __init__(self, graph: fx.GraphModule) -> None:
        super().__init__(graph)
        self.extremes: dict[str, tuple[float, float]] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(module_of(cast("fx.GraphModule", self.module), n), FusedConvolution):
            # Not min() and max(), which take 30 times as long in the memory format channels last.
            self.extremes[str(n.target)] = float(value.amin()), float(value.amax())
        return value


Ranges = Mapping[str, tuple[float, float]]
"""Smallest and largest value of each convolution's output, by the path of its module: nodes of a network's beginning have other
names than those of the whole."""


def observed_ranges(graph: fx.GraphModule, batch: Float[Tensor, "batch channel height width"]) -> Ranges:
    """Measures the ranges of activations on one batch.

    Args:
        graph: in float32, its convolutions packed; several threads may use it at once.
        batch: input of the graph.

    Returns:
        For each convolution the smallest and the largest value.
    """
    observer = _Observer(graph)
    observer.run(batch)
    return observer.extremes


def mean_ranges(observed: Sequence[Ranges]) -> Ranges:
    """The mean ranges over batches, so that a single image doesn't widen the range of all.

    Args:
        observed: the ranges on each batch; at least one.

    Example:
        >>> mean_ranges([{"conv": (-1.0, 5.0)}, {"conv": (-3.0, 1.0)}])
        {'conv': (-2.0, 3.0)}
    """
    n = len(observed)
    return {
        name: (sum(each[name][0] for each in observed) / n, sum(each[name][1] for each in observed) / n)
        for name in observed[0]
    }


def quantisable(conv: FusedConvolution) -> bool:
    """Whether a convolution can be converted, if its input is uint8."""
    return conv.activation.name in ACTIVATIONS


def quantise(graph: fx.GraphModule, ranges: Ranges) -> None:
    """Converts the convolutions that the pixels reach through others of them to int8.

    Args:
        graph: in float32, made for pixels minus ``PIXEL_ZERO``, its first convolution quantisable; changed. Its input is then
            uint8.
        ranges: of the activations.
    """
    scales: dict[fx.Node, Scale] = {}
    order = {node: place for place, node in enumerate(graph.graph.nodes)}
    chosen: list[fx.Node] = []
    for node in graph.graph.nodes:
        module = module_of(graph, node)
        if node.op == "placeholder":
            scales[node] = Scale(1.0, PIXEL_ZERO)
        elif type(module) is nn.MaxPool2d and node.args[0] in scales and _plain(module):
            scales[node] = scales[node.args[0]]
            chosen.append(node)
        elif isinstance(module, FusedConvolution) and _convertible(node, module, scales, order):
            low, high = ranges[str(node.target)]
            if module.activation.name == "hardtanh":
                low, high = 0.0, min(high, float(module.activation.scalars[1]))
            scales[node] = Scale.of_range(0.0 if module.activation.name == "relu" else low, high)
            chosen.append(node)
    for node in chosen:
        module, source = module_of(graph, node), cast("fx.Node", node.args[0])
        if isinstance(module, FusedConvolution):
            other = cast("fx.Node", node.args[1]) if len(node.args) > 1 else None
            stays = other is not None or any(user in chosen for user in node.users)
            conv = QuantisedConvolution(
                module, scales[source], scales[node] if stays else None, scales[other] if other is not None else None
            )
            new: nn.Module = conv.depthwise() or conv
            if stays:
                node.meta[ITEM_SIZE] = 1
            for user in [user for user in node.users if user not in chosen] if stays else []:
                _dequantise_for(graph, node, user, scales[node])
        else:
            new = _MaxPool(cast("nn.MaxPool2d", module))
            node.meta[ITEM_SIZE] = 1
            for user in [user for user in node.users if user not in chosen]:
                _dequantise_for(graph, node, user, scales[node])
        parent, _, name = cast("str", node.target).rpartition(".")
        setattr(graph.get_submodule(parent), name, new)
    graph.recompile()


def _convertible(
    node: fx.Node, module: FusedConvolution, scales: Mapping[fx.Node, Scale], order: Mapping[fx.Node, int]
) -> bool:
    if not quantisable(module) or not all(value in scales for value in node.args):
        return False
    if len(node.args) == 1:
        return True
    other = cast("fx.Node", node.args[1])  # overwritten: nothing may use it later
    return max(order[user] for user in other.users) == order[node] and other is not node.args[0]


def _dequantise_for(graph: fx.GraphModule, node: fx.Node, user: fx.Node, scale: Scale) -> None:
    name = f"dequantise_{node.name}_{user.name}"
    graph.add_module(name, _Dequantise(scale))
    with graph.graph.inserting_after(node):
        real = graph.graph.call_module(name, (node,))
    real.meta = {name: value for name, value in node.meta.items() if name != ITEM_SIZE}
    user.replace_input_with(node, real)


def _plain(pool: nn.MaxPool2d) -> bool:
    return pool.dilation in (1, (1, 1)) and not pool.ceil_mode and not pool.return_indices


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (value[0], value[1])
