"""A convolution in oneDNN's fastest form: fused with the operations that follow, its weights in the kernel's own order.

Leaves out finding convolutions in a network (``fusing``).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass(frozen=True)
class Activation:
    """An activation as oneDNN's convolution knows it."""

    name: str = "none"
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


class FusedConvolution(nn.Module):
    """A convolution followed by an optional residual sum and an optional activation, in one call.

    ``torch.ops.mkldnn`` are the operators that torch's own compiler uses for this.

    Args:
        conv: zero-padded, by numbers.
        activation: after the sum; with a sum only ``relu``.
        input_shape: of one image's input, [1, channel, height, width].
        adds: whether it will be given a residual.

    Attributes:
        dtype: of its input and output. Without a residual the bias stays in float32; with one, oneDNN doesn't take that.
    """

    def __init__(self, conv: nn.Conv2d, activation: Activation, input_shape: Sequence[int], *, adds: bool) -> None:
        super().__init__()
        self.weight = conv.weight.detach().float()
        self.bias = None if conv.bias is None else conv.bias.detach().float()
        self.padding = list(cast("tuple[int, ...]", conv.padding))
        self.stride, self.dilation, self.groups = list(conv.stride), list(conv.dilation), conv.groups
        self.activation = activation
        self.input_shape = list(input_shape)
        self.adds = adds
        self.dtype = torch.float32

    @property
    def is_depthwise(self) -> bool:
        """Whether each channel is convolved by itself."""
        return self.groups > 1 and self.groups == self.weight.shape[0]

    def read_pixels(self, mean: Float[Tensor, "1 3 1 1"], std: Float[Tensor, "1 3 1 1"]) -> tuple[int, int]:
        """Fold normalisation into the weights: inputs are then pixels x, already padded, instead of (x - mean) / std.

        Returns:
            The padding that inputs must have: rows above and below, columns left and right.
        """
        self.weight = round_to(self.weight / std, self.dtype).float()
        # From the rounded weights, so that their error is relative to the mean colour, not to zero.
        offset = (self.weight.double() * mean.double()).sum((1, 2, 3)).float()
        self.bias = -offset if self.bias is None else self.bias - offset
        (above, left), self.padding = self.padding, [0, 0]
        batch, channels, height, width = self.input_shape
        self.input_shape = [batch, channels, height + 2 * above, width + 2 * left]
        return above, left

    def pack(self, piece: int) -> None:
        """Convert the weights to their type, and to the kernel's order for a size of micro-batches; once, at the end."""
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            round_to(self.weight, self.dtype).contiguous(memory_format=torch.channels_last),
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            [piece, *self.input_shape[1:]],
        )
        if self.adds and self.bias is not None:
            self.bias = self.bias.to(self.dtype)

    def forward(
        self, values: Float[Tensor, "batch channel height width"], other: Tensor | None = None
    ) -> Float[Tensor, "batch out_channel out_height out_width"]:
        """The activation of the convolution of ``values`` plus ``other``."""
        weight, bias, what = self.weight, self.bias, self.activation
        where = (self.padding, self.stride, self.dilation, self.groups)
        scalars = list(what.scalars)
        operator = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            result = operator(values, weight, bias, *where, what.name, scalars, what.algorithm)
        else:
            after = None if what.name == "none" else what.name
            result = operator.binary(values, other, weight, bias, *where, "add", 1.0, after, scalars, "")
        return cast("Tensor", result)


def round_to(weight: Float[Tensor, "out in height width"], dtype: torch.dtype) -> Float[Tensor, "out in height width"]:
    """Round weights to bfloat16 while preserving the sum over each kernel.

    Neighbouring pixels are similar, so that a kernel's sum matters most; rounding each weight to the nearest value leaves the
    error of the sum to chance. Here up to three weights per kernel are rounded the other way to correct it, which halves the
    error of MobileNetV2's outputs.
    """
    if dtype != torch.bfloat16 or weight.shape[2:].numel() == 1:
        return weight.to(dtype)
    exact = weight.flatten(2)
    rounded = exact.to(dtype).float()
    for _ in range(3):
        error = (exact - rounded).sum(2, keepdim=True)
        # The distance to the next bfloat16, which has 8 significant bits.
        spacing = torch.where(rounded == 0, 0, torch.exp2(torch.floor(torch.log2(rounded.abs().clamp_min(1e-30))) - 7))
        step = spacing * error.sign()
        gain, place = (error.abs() - (error - step).abs()).max(2, keepdim=True)
        change = torch.where(gain > 0, step.gather(2, place), 0)
        rounded = rounded.scatter_add(2, place, change).to(dtype).float()
    return rounded.reshape(weight.shape).to(dtype)
