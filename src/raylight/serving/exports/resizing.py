"""Resizing as part of a network: images of any size to the network's size, with the result of the run's own resizers.

Each axis is one matrix product, ``weights[kept, length] @ pixels``, whose weights are computed from the size of the image. This
is exact, and needs nothing that runtimes disagree about: of ONNX's ``Resize`` with ``antialias``, OpenVINO 2026.4 ignores
``antialias``, without an error.

Each axis is rounded to whole levels, and weights are fixed-point numbers. cykooz-resizer, which resizes a run's JPEG files,
takes rows first and weights of 15 bits; Pillow, which resizes all others, columns first and 22 bits. Either is reproduced to
the level, in one step: there are networks in which one level in a tenth of the pixels moves a probability by 0.1. What a run
does before that to large files isn't reproduced: JPEG files are scaled while they are decoded, others, from six times the
wanted size on, averaged over blocks of whole pixels (Pillow's ``reducing_gap``).
"""

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from raylight.data.decode.spec import DecodeSpec

CYKOOZ_BITS = 15
"""The largest weight of an axis, in units of its fixed point, is less than 2 to this power."""

PILLOW_BITS = 22
"""All weights are multiples of 2 to minus this power."""


class Resize(nn.Module):
    """Resizes, and crops or pads, a batch of images of one size.

    Args:
        spec: the shape of the result.
        resizer: whose result is reproduced: ``cykooz`` or ``pillow``.
    """

    fill: Tensor

    def __init__(self, spec: DecodeSpec, resizer: str) -> None:
        super().__init__()
        self.spec = spec
        self.resizer = resizer
        self.register_buffer("fill", torch.tensor(spec.fill, dtype=torch.float32).reshape(1, 3, 1, 1))

    def forward(self, images: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch 3 rows columns"]:
        """Resize images.

        Args:
            images: RGB, 0 to 255, of any height and width.

        Returns:
            Whole numbers, 0 to 255.
        """
        batch, height, width, _ = images.shape
        rows, columns = self._resized(_scalar(height), _scalar(width))
        of_rows, has_rows = self._axis(height, rows, self.spec.height)
        of_columns, has_columns = self._axis(width, columns, self.spec.width)
        if self.resizer == "cykooz":
            stored = images.reshape(batch, height, width * 3).to(torch.float32)
            short = _levels(torch.matmul(of_rows, stored)).reshape(batch, self.spec.height, width, 3)
            small = _levels(torch.matmul(short.permute(0, 3, 1, 2), of_columns.T))
        else:
            narrow = _levels(torch.matmul(images.permute(0, 3, 1, 2).to(torch.float32), of_columns.T))
            small = _levels(torch.matmul(of_rows, narrow))
        if self.spec.resize != "pad":
            return small
        return torch.where(has_rows[:, None] & has_columns[None, :], small, self.fill)

    def _resized(self, height: Int[Tensor, ""], width: Int[Tensor, ""]) -> tuple[Tensor, Tensor]:
        """Rows and columns of the whole image after resizing; see ``DecodeSpec.box`` and ``DecodeSpec.shape``."""
        rows, columns = map(_scalar, self.spec.frame)
        if self.spec.resize == "crop":
            by_height = height * columns <= width * rows
            wide = torch.maximum(rows * width // height, columns)
            tall = torch.maximum(columns * height // width, rows)
            return torch.where(by_height, rows, tall), torch.where(by_height, wide, columns)
        if self.spec.resize == "pad":
            by_height = height * columns >= width * rows
            narrow = _rounded(width * rows, height).clamp(min=1)
            low = _rounded(height * columns, width).clamp(min=1)
            return torch.where(by_height, rows, low), torch.where(by_height, narrow, columns)
        return rows, columns

    def _axis(self, length: int, resized: Int[Tensor, ""], kept: int) -> tuple[Tensor, Tensor]:
        """The weights of an axis, float32[kept, length], and which of the ``kept`` positions the image covers."""
        start = -((kept - resized) // 2) if self.spec.resize == "pad" else _rounded(resized - kept, _scalar(2))
        position = torch.arange(kept) + start
        inside = torch.minimum(position.clamp(min=0), resized - 1)
        weights = axis_weights(length, resized, inside, self.spec.interpolation)
        scale = fixed_point(weights.max()) if self.resizer == "cykooz" else 2.0**PILLOW_BITS
        return (torch.round(weights * scale) / scale).to(torch.float32), position == inside


def axis_weights(
    length: int, resized: Int[Tensor, ""], position: Int[Tensor, " kept"], interpolation: str
) -> Float[Tensor, "kept length"]:
    """The weight of each pixel of an axis in each pixel of the resized axis.

    The filter is the triangle or Keys' cubic with a = -0.5, widened by the scale where the axis shrinks, and its weights sum
    to 1, as in Pillow. Distances are whole numbers until they are divided, so that runtimes that compute in float32 or
    bfloat16 place pixels exactly, too.

    Args:
        length: of the axis, in pixels.
        resized: length of the whole axis after resizing.
        position: of each wanted pixel of the resized axis.
        interpolation: ``bilinear`` or ``bicubic``.

    Example:
        >>> axis_weights(4, torch.tensor(2), torch.arange(2), "bilinear")
        tensor([[0.4286, 0.4286, 0.1429, 0.0000],
                [0.0000, 0.1429, 0.4286, 0.4286]], dtype=torch.float64)
    """
    whole = _scalar(length)
    apart = torch.abs((2 * torch.arange(length) + 1)[None, :] * resized - (2 * position + 1)[:, None] * whole)
    distance = apart.to(torch.float64) / (2 * torch.maximum(whole, resized)).to(torch.float64)
    if interpolation == "bilinear":
        weights = (1 - distance).clamp(min=0)
    else:
        near = (1.5 * distance - 2.5) * distance * distance + 1
        far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
        weights = torch.where(distance < 1, near, torch.where(distance < 2, far, 0.0))
    return weights / weights.sum(dim=1, keepdim=True)


def fixed_point(largest: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """The power of 2 of which cykooz-resizer's weights are multiples: the finest by which the largest has less than 16 bits.

    Args:
        largest: weight of an axis.

    Example:
        >>> fixed_point(torch.tensor(0.3, dtype=torch.float64))  # 0.3 * 65536 is less than 2 to the power of 15
        tensor(65536., dtype=torch.float64)
    """
    powers = 2.0 ** torch.arange(1, 22, dtype=torch.float64)
    fits = torch.floor(largest * powers + 0.5) < 2**CYKOOZ_BITS
    return torch.where(fits, powers, 1.0).max()


def _levels(values: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Whole levels, 0 to 255; halves are rounded up."""
    return torch.floor(values + 0.5).clamp(0, 255)


def _rounded(value: Int[Tensor, ""], divisor: Int[Tensor, ""]) -> Int[Tensor, ""]:
    """The nearest whole number to a quotient, halves to the even one, as Python's ``round``."""
    below = value // divisor
    twice = 2 * (value - below * divisor)
    return below + ((twice > divisor) | ((twice == divisor) & (below % 2 == 1))).to(torch.int64)


def _scalar(value: int) -> Int[Tensor, ""]:
    """A size as a tensor: in an export, it stays an unknown of the image."""
    return torch.scalar_tensor(value, dtype=torch.int64)
