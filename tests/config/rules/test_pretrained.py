"""What a network is shown comes from its weights, unless it is typed."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import models

from raylight.config.rules.pretrained import STATISTICS, ModelInput, filled, model_input
from raylight.config.schema import ModelConfig
from raylight.data.decode.image import decode_image
from raylight.errors import ConfigError
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from tests.config.test_check import problems
from tests.config.test_options import compose

IMAGENET, HALF = STATISTICS["imagenet"], STATISTICS["centered"]
NAMES = models.list_models(module=models)


def torchvision(name: str, **settings: object) -> ModelConfig:
    return ModelConfig(name=name, family="torchvision", **settings)  # type: ignore[arg-type]


def photo(width: int = 500, height: int = 375) -> Image.Image:
    """Edges and noise, in which a shift of half a pixel or another filter shows."""
    rng = np.random.default_rng(0)
    blocks = rng.integers(0, 256, (height // 5 + 1, width // 5 + 1, 3), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
    noise = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray((blocks[:height, :width] + noise).clip(0, 255).astype(np.uint8))


def png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # as published at https://docs.pytorch.org/vision/stable/models.html
        ("resnet18", ModelInput(224, "crop", *IMAGENET, 256, "bilinear")),
        ("mobilenet_v2", ModelInput(224, "crop", *IMAGENET, 232, "bilinear")),
        ("efficientnet_b0", ModelInput(224, "crop", *IMAGENET, 256, "bicubic")),
        ("efficientnet_v2_s", ModelInput(384, "crop", *IMAGENET, 384, "bilinear")),
        ("efficientnet_v2_l", ModelInput(480, "crop", *HALF, 480, "bicubic")),
        ("inception_v3", ModelInput(299, "crop", *IMAGENET, 342, "bilinear")),
    ],
)
def test_null_is_what_the_weights_were_published_with(name: str, expected: ModelInput) -> None:
    assert model_input(torchvision(name)) == model_input(torchvision(name, weights="/some/local.pt")) == expected


@pytest.mark.parametrize("size", [(500, 375), (333, 511)])
def test_every_network_of_torchvision_sees_what_torchvision_would_show_it(size: tuple[int, int]) -> None:
    """Pixel by pixel, to rounding; a PNG, whose decoding leaves no choice."""
    picture, seen = photo(*size), set()
    for name in NAMES:
        preprocessing = Preprocessing.from_config(torchvision(name))
        if preprocessing in seen:
            continue
        seen.add(preprocessing)
        expected = models.get_model_weights(name).DEFAULT.transforms()(picture)
        pixels = decode_image(png(picture), preprocessing.decode_spec)
        apart = (preprocessing.normalise(torch.from_numpy(pixels)[None])[0] - expected).abs()
        levels = apart * torch.tensor(preprocessing.std).reshape(3, 1, 1) * 255
        assert levels.max() < 2.01, name  # the cubic overshoots and is rounded after each of its two passes
        assert levels.mean() < 0.02, name
    assert len(seen) > 20


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["squeezenet1_1", "swin_t", "vit_b_32"])
def test_logits_are_those_of_torchvisions_own_transform(name: str, real_data: Path) -> None:
    """On JPEG photos: another decoder's rounding moves logits by hundredths of their standard deviation over the photos."""
    contents = [file.read_bytes() for file in sorted((real_data / "dogs-vs-cats").rglob("*.jpg"))[::700]]
    torch.manual_seed(0)
    preprocessing = Preprocessing.from_config(torchvision(name))
    network = build_network(torchvision(name), 5).eval()
    published = models.get_model_weights(name).DEFAULT.transforms()
    theirs = torch.stack([published(Image.open(io.BytesIO(content)).convert("RGB")) for content in contents])
    ours = np.stack([decode_image(content, preprocessing.decode_spec) for content in contents])
    with torch.inference_mode():
        expected, found = network(theirs), network(preprocessing.normalise(torch.from_numpy(ours)))
    assert len(contents) == 3
    assert ((found - expected).abs() / expected.std(dim=0)).mean() < 0.06


def test_weights_are_known_by_the_name_of_their_published_file() -> None:
    first, second = "mobilenet_v2-b0353104.pth", "mobilenet_v2-7ebf99e0.pth"
    assert model_input(torchvision("mobilenet_v2", weights=f"/models/{first}")).resize_size == 256
    assert model_input(torchvision("mobilenet_v2", weights=f"/models/{second}")).resize_size == 232


def test_what_is_typed_wins_and_the_rest_follows() -> None:
    smaller = model_input(torchvision("mobilenet_v2", image_size=112))
    assert smaller == ModelInput(112, "crop", *IMAGENET, 116, "bilinear")
    own = {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 0.6]}
    typed = torchvision("resnet18", resize="stretch", interpolation="bicubic", normalize=own)
    assert model_input(typed) == ModelInput(224, "stretch", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), None, "bicubic")
    assert model_input(torchvision("resnet18", resize_size=300, normalize="unit")).resize_size == 300
    assert model_input(ModelConfig()) == ModelInput(64, "stretch", *STATISTICS["unit"])
    assert model_input(ModelConfig(image_size=84, resize="crop")).resize_size == 96


def test_filled_settings_say_the_same_without_the_weights() -> None:
    for model in (torchvision("efficientnet_v2_l"), torchvision("mobilenet_v2", resize="stretch"), ModelConfig()):
        assert model_input(replace(filled(model), family="convnet")) == model_input(model)
    assert filled(torchvision("resnet18")).normalize == "imagenet"


def test_weights_of_a_run_come_with_what_the_run_was_shown(tmp_path: Path) -> None:
    shown = Preprocessing(96, "crop", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6), 101, "bicubic")
    (tmp_path / "preprocessing.json").write_text(json.dumps(shown.to_dict() | {"class_names": ["a", "b"]}))
    for weights in (tmp_path, tmp_path / "model.safetensors", tmp_path / "checkpoints" / "best.ckpt"):
        assert Preprocessing.from_config(torchvision("resnet18", weights=str(weights))) == shown
    (tmp_path / "preprocessing.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"preprocessing\.json, the preprocessing of the weights, can't be read"):
        model_input(torchvision("resnet18", weights=str(tmp_path)))


def test_augmentation_follows_the_size_of_the_weights() -> None:
    run = compose("model=torchvision", "model.name=efficientnet_v2_s", "augment=crop_flip")
    assert run.augment.transforms[0]["size"] == 384
    assert (run.model.image_size, run.model.resize_size, run.model.normalize) == (384, 384, "imagenet")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.interpolation=nearest"], "model.interpolation: 'nearest' is not one of bilinear, bicubic"),
        (["model.normalize=imagnet"], "model.normalize: 'imagnet' is not one of unit, centered, imagenet, nor"),
        (
            ["model.normalize={mean:[0,0,0],std:[1,1,0]}"],
            "model.normalize: {'mean': [0, 0, 0], 'std': [1, 1, 0]} is not",
        ),
        (
            ["model=resnet18", "model.weights=null", "model.resize_size=200"],
            "model.resize_size: 200 is less than the 224",
        ),
    ],
)
def test_what_cannot_be_shown_is_named_before_any_work(overrides: list[str], message: str) -> None:
    (problem,) = problems(*overrides)
    assert problem.startswith(message)
