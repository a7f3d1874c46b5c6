"""A convolution with what follows it, and its rounded weights."""

import pytest
import torch
from torch import nn

from raylight.cpu.convolution import Activation, FusedConvolution, round_to


def test_rounded_kernels_keep_their_sum() -> None:
    weight = torch.randn(64, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    nearest, mended = weight.bfloat16(), round_to(weight, torch.bfloat16)
    assert mended.dtype == torch.bfloat16

    def sums(rounded: torch.Tensor) -> float:
        return float((rounded.float() - weight).sum((2, 3)).abs().mean())

    assert sums(mended) < sums(nearest) / 4
    assert ((mended.float() - weight).abs() <= weight.abs() * 2**-6).all()  # a few steps at most
    pointwise = torch.randn(4, 4, 1, 1)
    assert torch.equal(round_to(pointwise, torch.bfloat16), pointwise.bfloat16())
    assert round_to(weight, torch.float32) is weight


@pytest.mark.parametrize("name", ["none", "relu"])
def test_sum_and_activation_are_computed_in_one_call(name: str) -> None:
    torch.manual_seed(0)
    conv, images = nn.Conv2d(3, 8, 3, stride=2, padding=1, groups=1), torch.randn(4, 3, 9, 9)
    other = torch.randn(4, 8, 5, 5)
    fused = FusedConvolution(conv, Activation(name), (1, 3, 9, 9), adds=True)
    fused.pack(4)
    with torch.no_grad():
        expected = conv(images) + other
        result = fused(images, other.clone())
    torch.testing.assert_close(result, expected.relu() if name == "relu" else expected)


def test_pixels_are_normalised_by_weights_and_bias() -> None:
    """As much padding is asked for as the convolution had; a border of the mean is what zero was."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=(1, 2))
    mean, std = (
        torch.tensor([3.0, -7.0, 20.0]).reshape(1, 3, 1, 1),
        torch.tensor([50.0, 60.0, 70.0]).reshape(1, 3, 1, 1),
    )
    pixels = torch.randint(-128, 128, (2, 3, 6, 6)).float()
    fused = FusedConvolution(conv, Activation(), (1, 3, 6, 6), adds=False)
    assert fused.read_pixels(mean, std) == (1, 2)
    fused.pack(2)
    padded = mean.expand(2, 3, 8, 10).clone()
    padded[:, :, 1:7, 2:8] = pixels
    with torch.no_grad():
        torch.testing.assert_close(fused(padded), conv((pixels - mean) / std), atol=1e-5, rtol=1e-5)
