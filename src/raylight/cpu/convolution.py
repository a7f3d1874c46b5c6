"""A convolution in oneDNN's fastest form: fused with the operations that follow, its weights in the kernel's memory layout.

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
    """An activation function by oneDNN's names.

    Attributes:
        name: such as ``relu``.
        scalars: its parameters.
        algorithm: its variant, such as ``tanh`` for GELU.
    """

    name: str = "none"
    scalars: tuple[float, ...] = ()
    algorithm: str = ""


class FusedConvolution(nn.Module):
    """A convolution followed by an optional residual sum and an optional activation, in one call.

    The operators of ``torch.ops.mkldnn`` are those that torch's own compiler uses for this.

    Args:
        conv: with zero padding, given by numbers.
        activation: applied after the sum; only ``relu`` if there is one.
        input_shape: shape of the input for one image, [1, channel, height, width].
        adds: whether a residual will be added.

    Attributes:
        dtype: of its input and output. The bias stays in float32, except with a residual, where oneDNN doesn't support it.
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

    def read_pixels(self, mean: Float[Tensor, "1 3 1 1"], std: Float[Tensor, "1 3 1 1"]) -> tuple[int, int]:
        """Folds normalisation into the weights: inputs are then pixels x, already padded, instead of (x - mean) / std.

        Args:
            mean: per channel, in the unit of the pixels.
            std: standard deviation per channel, in the unit of the pixels.

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

    def pack(self, micro_batch: int) -> None:
        """Converts the weights to their type, and to the kernel's layout for a size of micro-batches; once, at the end."""
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(
            round_to(self.weight, self.dtype).contiguous(memory_format=torch.channels_last),
            self.padding,
            self.stride,
            self.dilation,
            self.groups,
            [micro_batch, *self.input_shape[1:]],
        )
        if self.adds and self.bias is not None:
            self.bias = self.bias.to(self.dtype)

    def forward(
        self, values: Float[Tensor, "batch channel height width"], other: Tensor | None = None
    ) -> Float[Tensor, "batch out_channel out_height out_width"]:
        """Computes the convolution, adds the residual and applies the activation.

        Args:
            values: the input.
            other: the residual, in the shape of the output; ``None`` if there is none.

        Returns:
            The output, in ``dtype``.
        """
        weight, bias, activation = self.weight, self.bias, self.activation
        geometry = (self.padding, self.stride, self.dilation, self.groups)
        scalars = list(activation.scalars)
        operator = torch.ops.mkldnn._convolution_pointwise
        if other is None:
            result = operator(values, weight, bias, *geometry, activation.name, scalars, activation.algorithm)
        else:
            name = None if activation.name == "none" else activation.name
            result = operator.binary(values, other, weight, bias, *geometry, "add", 1.0, name, scalars, "")
        return cast("Tensor", result)


def round_to(weight: Float[Tensor, "out in height width"], dtype: torch.dtype) -> Float[Tensor, "out in height width"]:
    """Rounds weights to bfloat16 while preserving the sum over each kernel.

    Neighbouring pixels are similar, so the sum of a kernel matters most; rounding each weight to the nearest value leaves the
    error of the sum to chance. Here, up to three weights per kernel are rounded the other way to correct it, which halves the
    error of MobileNetV2's outputs.

    Args:
        weight: of a convolution, float32.
        dtype: float32, which changes nothing, or bfloat16.

    Returns:
        The weights in that type.
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
        gain, index = (error.abs() - (error - step).abs()).max(2, keepdim=True)
        change = torch.where(gain > 0, step.gather(2, index), 0)
        rounded = rounded.scatter_add(2, index, change).to(dtype).float()
    return rounded.reshape(weight.shape).to(dtype)
