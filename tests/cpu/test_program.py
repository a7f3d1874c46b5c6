"""A rewritten network: what it reads, in which micro-batches, in which types."""

import numpy as np
import pytest
import torch
from torch import nn

from raylight.config.schema import ModelConfig
from raylight.cpu.convolution import FusedConvolution
from raylight.cpu.engine import bf16_supported
from raylight.cpu.program import CACHE_BYTES, rewrite
from raylight.models.preprocessing import Preprocessing

SIZE = 16
PREPROCESSING = Preprocessing.from_config(ModelConfig(image_size=SIZE, normalize="imagenet"))


@pytest.fixture
def stages() -> list[nn.Module]:
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU()),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 2),
    ]


@torch.inference_mode()
def test_pixels_of_chosen_rows_are_normalised_and_padded_as_the_network_does(stages: list[nn.Module]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, SIZE, SIZE, 3), np.uint8)
    rows = np.array([4, 0, 4])
    program = rewrite(stages, torch.zeros(1, 3, SIZE, SIZE), PREPROCESSING, torch.float32, 2)
    # torchvision's own normalisation of values between 0 and 1.
    scaled = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2) / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = nn.Sequential(*stages)((scaled - mean.reshape(3, 1, 1)) / std.reshape(3, 1, 1))
    torch.testing.assert_close(program(pixels, rows), expected, atol=1e-4, rtol=1e-4)
    assert program.output_shape == (2,)


@torch.inference_mode()
def test_features_are_read_as_they_are(stages: list[nn.Module]) -> None:
    features = np.random.default_rng(0).normal(size=(5, 8, SIZE, SIZE)).astype(np.float32)
    program = rewrite(stages[1:], torch.zeros(1, 8, SIZE, SIZE), None, torch.float32, 4)
    expected = nn.Sequential(*stages[1:])(torch.from_numpy(features[[3, 1]]))
    torch.testing.assert_close(program(features, np.array([3, 1])), expected)


@pytest.mark.parametrize(("size", "micro_batch"), [(16, 16), (128, 8), (400, 1)])
def test_a_micro_batch_is_the_largest_power_of_two_whose_activations_fit_the_cache(size: int, micro_batch: int) -> None:
    channels = 8
    program = rewrite([nn.Conv2d(3, channels, 1)], torch.zeros(1, 3, size, size), None, torch.float32, 16)
    (section,) = program.sections
    assert section.micro_batch == micro_batch
    activation = 4 * channels * size * size  # bytes of float32
    assert (
        micro_batch == 16 or micro_batch * activation <= CACHE_BYTES < 2 * micro_batch * activation or micro_batch == 1
    )


@pytest.mark.skipif(not bf16_supported(), reason="this processor has no bf16 instructions")
def test_the_tail_stays_in_float32(stages: list[nn.Module]) -> None:
    program = rewrite(stages, torch.zeros(1, 3, SIZE, SIZE), PREPROCESSING, torch.bfloat16, 16)
    modules = {module for section in program.sections for module in section.module.modules()}
    assert {module.dtype for module in modules if isinstance(module, FusedConvolution)} == {torch.bfloat16}
    assert {module.weight.dtype for module in modules if isinstance(module, nn.Linear)} == {torch.float32}
