"""Random transforms: every one of torchvision's can be repeated per (seed, epoch, image), or is refused before work."""

import inspect
import random
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.transforms import v2

from raylight.data.augment import build_augmenter, check_augmentation
from raylight.errors import ConfigError

V2 = "torchvision.transforms.v2"
SIZE = 24


def node(name: str, **settings: object) -> dict[str, object]:
    return {"_target_": f"{V2}.{name}", **settings}


FLOATS, BYTES = node("ToDtype", dtype=torch.float32, scale=True), node("ToDtype", dtype=torch.uint8, scale=True)
FLIPS = [v2.RandomHorizontalFlip(), v2.RandomVerticalFlip()]
BACK = node("Resize", size=[SIZE, SIZE])

RANDOM: Mapping[str, list[dict[str, object]]] = {
    name: [node(name, **settings)]
    for name, settings in {
        "AugMix": {},
        "AutoAugment": {},
        "ColorJitter": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.2},
        "ElasticTransform": {},
        "GaussianBlur": {"kernel_size": 5},
        "JPEG": {"quality": [5, 50]},
        "RandAugment": {},
        "RandomAdjustSharpness": {"sharpness_factor": 4},
        "RandomAffine": {"degrees": 30},
        "RandomApply": {"transforms": [v2.RandomInvert(1.0)]},
        "RandomAutocontrast": {},
        "RandomChannelPermutation": {},
        "RandomChoice": {"transforms": FLIPS},
        "RandomCrop": {"size": SIZE, "padding": 4},
        "RandomEqualize": {},
        "RandomErasing": {},
        "RandomGrayscale": {"p": 0.5},
        "RandomHorizontalFlip": {},
        "RandomInvert": {},
        "RandomOrder": {"transforms": [*FLIPS, v2.RandomErasing(1.0)]},
        "RandomPerspective": {},
        "RandomPhotometricDistort": {},
        "RandomPosterize": {"bits": 2},
        "RandomResizedCrop": {"size": SIZE},
        "RandomRotation": {"degrees": 30},
        "RandomSolarize": {"threshold": 100},
        "RandomVerticalFlip": {},
        "TrivialAugmentWide": {},
    }.items()
} | {
    "GaussianNoise": [FLOATS, node("GaussianNoise"), BYTES],
    "RandomResize": [node("RandomResize", min_size=12, max_size=40), BACK],
    "RandomShortestSize": [node("RandomShortestSize", min_size=[12, 18, 40]), BACK],
    "RandomZoomOut": [node("RandomZoomOut"), BACK],
    "ScaleJitter": [node("ScaleJitter", target_size=[SIZE, SIZE]), BACK],
}
"""Ways to use each random transform of torchvision that works on single pictures."""

REFUSED = {
    "CutMix": [node("CutMix", num_classes=2)],
    "MixUp": [node("MixUp", num_classes=2)],
    "RandomIoUCrop": [node("RandomIoUCrop")],
}
"""Random transforms that need a batch with labels, or boxes."""

FIXED = {
    "CenterCrop",
    "ClampBoundingBoxes",
    "ClampKeyPoints",
    "Compose",
    "ConvertBoundingBoxFormat",
    "ConvertImageDtype",
    "FiveCrop",
    "Grayscale",
    "Identity",
    "Lambda",
    "LinearTransformation",
    "Normalize",
    "PILToTensor",
    "Pad",
    "RGB",
    "Resize",
    "SanitizeBoundingBoxes",
    "SanitizeKeyPoints",
    "SetClampingMode",
    "TenCrop",
    "ToDtype",
    "ToImage",
    "ToPILImage",
    "ToPureTensor",
    "ToTensor",
    "Transform",
    "UniformTemporalSubsample",
}
"""Those that draw nothing."""


def test_every_transform_of_torchvision_is_judged_here() -> None:
    known = {name for name, kind in vars(v2).items() if inspect.isclass(kind) and issubclass(kind, nn.Module)}
    assert known <= RANDOM.keys() | REFUSED.keys() | FIXED


@pytest.mark.parametrize("name", sorted(RANDOM))
def test_a_random_transform_depends_on_seed_epoch_and_image_alone(name: str) -> None:
    picture = torch.randint(40, 220, (3, SIZE, SIZE), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)

    def pictures(seed: int) -> list[torch.Tensor]:
        """Of 24 epochs, whatever state the generators of the process are in."""
        torch.seed()
        random.seed()
        augmenter = build_augmenter(RANDOM[name], seed)
        return [augmenter(picture.clone(), "key", turn) for turn in range(24)]

    first, again, other = pictures(1), pictures(1), pictures(2)
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert any(not torch.equal(one, two) for one, two in zip(first, other, strict=True))
    assert len({one.numpy().tobytes() for one in first}) > 1
    check_augmentation(RANDOM[name], 1, SIZE)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_works_on_no_single_picture_is_refused(name: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"augment\.transforms\[0\]: torchvision\.transforms\.v2\.{name} fails on an image"
    ):
        check_augmentation(REFUSED[name], 1, SIZE)


class Dropped(nn.Module):
    """Draws within a function of torch's."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(image.float(), 0.5).clamp(0, 255).to(torch.uint8)


class PythonsNoise(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.roll(random.randrange(SIZE), -1)


class NumpysNoise(nn.Module):
    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image.roll(int(np.random.randint(SIZE)), -1)


class Counting(nn.Module):
    """Draws nothing, but remembers."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        self.seen += 1
        return image.roll(self.seen, -1)


class TorchsNoise(nn.Module):
    """All of torch's draws, by whatever name."""

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        noise = [torch.rand_like(image.float()), torch.randn_like(image.float()), torch.randint_like(image.float(), 9)]
        noise += [
            torch.empty(image.shape).cauchy_(),
            torch.empty(image.shape).geometric_(0.3),
            torch.randn(image.shape),
        ]
        noise += [torch.distributions.Dirichlet(torch.ones(image.shape)).sample(), torch.poisson(image.float() / 9)]
        noise += [
            torch.normal(image.float(), 2.0),
            torch.empty(image.shape).random_(),
            torch.empty(image.shape).log_normal_(),
        ]
        total: Any = sum(part.nan_to_num().clamp(-9, 9) for part in noise)
        return (image + total).clamp(0, 255).to(torch.uint8)


@pytest.mark.parametrize("kind", [PythonsNoise, NumpysNoise, Dropped, Counting])
def test_a_users_transform_that_cannot_be_repeated_is_named(kind: type[nn.Module]) -> None:
    own: dict[str, object] = {"_target_": f"{__name__}.{kind.__name__}"}
    with pytest.raises(
        ConfigError, match=rf"transforms\[1\]: tests.*\.{kind.__name__} gives different results for the same seed"
    ):
        check_augmentation([node("RandomHorizontalFlip"), own], 1, SIZE)


def test_a_users_transform_that_draws_with_torch_is_repeated() -> None:
    check_augmentation([{"_target_": f"{__name__}.TorchsNoise"}], 1, SIZE)
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    check_augmentation([{"_target_": f"{__name__}.TorchsNoise"}], 1, SIZE)
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize(
    ("nodes", "made"),
    [([node("Resize", size=[9, 9])], r"torch\.uint8\[3, 9, 9\]"), ([FLOATS], r"torch\.float32\[3, 24, 24\]")],
)
def test_what_makes_no_picture_for_the_network_is_refused(nodes: list[dict[str, object]], made: str) -> None:
    with pytest.raises(ConfigError, match=rf"return {made} for an image torch\.uint8\[3, 24, 24\]"):
        check_augmentation(nodes, 1, SIZE)


class Locked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lock = threading.Lock()

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return image


def test_what_cannot_be_copied_for_each_thread_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"augment\.transforms\[1\].*Locked can't be copied: TypeError: cannot pickle .*lock"
    ):
        check_augmentation([node("RandomHorizontalFlip"), {"_target_": f"{__name__}.Locked"}], 1, SIZE)
