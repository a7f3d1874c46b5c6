import json

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from raylight.config.schema import ModelConfig
from raylight.models.preprocessing import Preprocessing


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 7, 5, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    ("normalize", "mean", "std"),
    [
        ("unit", [0, 0, 0], [1, 1, 1]),
        ("centered", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
        ("imagenet", [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ],
)
def test_normalises_like_torchvision(normalize: str, mean: list[float], std: list[float], pixels: torch.Tensor) -> None:
    reference = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(mean, std)])
    result = Preprocessing.from_config(ModelConfig(normalize=normalize)).normalise(pixels)
    assert result.dtype == torch.float32
    assert torch.allclose(result, reference(pixels.permute(0, 3, 1, 2)), atol=2e-6)


def test_colour_may_come_first_or_last_and_memory_stays_channels_last(pixels: torch.Tensor) -> None:
    preprocessing = Preprocessing.from_config(ModelConfig(normalize="imagenet"))
    last = preprocessing.normalise(pixels)
    assert last.is_contiguous(memory_format=torch.channels_last)
    first = pixels.permute(0, 3, 1, 2)
    assert torch.equal(preprocessing.normalise(first), last)
    contiguous = preprocessing.normalise(first.contiguous())
    assert contiguous.is_contiguous()
    assert torch.equal(contiguous, last)


def test_images_three_pixels_wide_are_taken_as_colour_first() -> None:
    pixels = torch.zeros(1, 3, 4, 3, dtype=torch.uint8)
    assert Preprocessing.from_config(ModelConfig()).normalise(pixels).shape == (1, 3, 4, 3)


def test_travels_through_json_unchanged() -> None:
    preprocessing = Preprocessing.from_config(ModelConfig(image_size=224, resize="crop", normalize="imagenet"))
    assert Preprocessing.from_dict(json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing
    assert (preprocessing.decode_spec.size, preprocessing.decode_spec.resize) == (224, "crop")


def test_files_are_decoded_to_what_the_network_wants_with_a_border_of_the_mean() -> None:
    model = ModelConfig(image_size=48, resize="pad", normalize={"mean": [0.5, 0.1, 0.9], "std": [1, 1, 1]})
    spec = Preprocessing.from_config(model).decode_spec
    assert (spec.size, spec.resize, spec.resize_size, spec.interpolation) == (48, "pad", None, "bilinear")
    assert spec.fill == (128, 26, 230)  # of 255, rounded
    crop = ModelConfig(image_size=48, resize="crop", resize_size=60, interpolation="bicubic")
    spec = Preprocessing.from_config(crop).decode_spec
    assert (spec.size, spec.resize, spec.resize_size, spec.interpolation) == (48, "crop", 60, "bicubic")


def test_an_older_runs_file_lacks_what_was_bilinear_then() -> None:
    older = {"size": 32, "resize": "stretch", "mean": [0, 0, 0], "std": [1, 1, 1]}
    found = Preprocessing.from_dict(older)
    assert (found.resize_size, found.interpolation) == (None, "bilinear")
    assert Preprocessing.from_dict(older | {"resize_size": 40}).resize_size == 40


def test_black_white_and_grey_are_normalised_by_hand() -> None:
    own = {"mean": [0.2, 0.4, 0.6], "std": [0.5, 0.25, 0.1]}
    pixels = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3).expand(1, 3, 2, 3)
    result = Preprocessing.from_config(ModelConfig(normalize=own)).normalise(pixels)[0, :, 0]
    expected = [[(value - mean) / std for value in (0, 0.2, 1)] for mean, std in zip(*own.values(), strict=True)]
    torch.testing.assert_close(result, torch.tensor(expected), atol=1e-5, rtol=1e-5)
