"""timm's classifiers: shown, built, cut, run and loaded as timm itself would."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from raylight.config.rules.pretrained import STATISTICS, ModelInput, model_input
from raylight.config.schema import ModelConfig
from raylight.cpu.engine import InferenceEngine
from raylight.data.decode.image import decode_image
from raylight.errors import ConfigError, WeightsError
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from tests.config.rules.test_pretrained import photo, png

HALF, IMAGENET = STATISTICS["centered"], STATISTICS["imagenet"]


def config(name: str, **settings: object) -> ModelConfig:
    return ModelConfig(name=name, family="timm", **settings)  # type: ignore[arg-type]


def build(name: str, n_classes: int = 3, **settings: object) -> StagedNetwork:
    torch.manual_seed(0)
    return build_network(config(name, **settings), n_classes)


@pytest.mark.parametrize(
    ("name", "expected"),
    [  # read off https://huggingface.co/timm
        ("resnet18", ModelInput(224, "crop", *IMAGENET, 235, "bicubic")),
        ("resnet18.tv_in1k", ModelInput(224, "crop", *IMAGENET, 256, "bilinear")),
        ("vit_tiny_patch16_224", ModelInput(224, "crop", *HALF, 248, "bicubic")),
        ("convnext_tiny.fb_in22k_ft_in1k_384", ModelInput(384, "stretch", *IMAGENET, None, "bicubic")),
        ("dm_nfnet_f0", ModelInput(192, "stretch", *IMAGENET, 213, "bicubic")),
    ],
)
def test_null_is_what_the_weights_were_published_with(name: str, expected: ModelInput) -> None:
    assert model_input(config(name)) == expected


def test_every_network_of_timm_sees_what_timm_would_show_it() -> None:
    """Pixel by pixel, to rounding, for each way of resizing; a PNG, whose decoding leaves no choice."""
    picture, seen = photo(333, 251), set()
    for name in timm.list_models(pretrained=True):
        published = timm.get_pretrained_cfg(name)
        _, height, width = published.input_size
        way = (published.crop_mode, published.interpolation, published.crop_pct)
        if way in seen or height > 260 or height != width:
            continue
        seen.add(way)
        preprocessing = Preprocessing.from_config(config(name))
        expected = timm.data.create_transform(**timm.data.resolve_data_config({}, pretrained_cfg=published.to_dict()))(
            picture
        )
        pixels = decode_image(png(picture), preprocessing.decode_spec)
        apart = (preprocessing.normalise(torch.from_numpy(pixels)[None])[0] - expected).abs()
        levels = apart * torch.tensor(preprocessing.std).reshape(3, 1, 1) * 255
        assert levels.max() < 2.01, name  # the cubic overshoots and is rounded after each of its two passes
        assert levels.mean() < 0.02, name
    assert len(seen) > 12


NETWORKS = {
    "convnext_atto": {},
    "mobilenetv3_small_050": {},
    "vit_tiny_patch16_224": {"image_size": 64},
    "mixer_s32_224": {},
    "dla46_c": {},
    "deit_tiny_distilled_patch16_224": {"image_size": 64},
}


@pytest.mark.parametrize("name", NETWORKS)
def test_logits_are_timms_own_and_the_engines_too(name: str) -> None:
    network = build(name, **NETWORKS[name]).eval()
    size = NETWORKS[name].get("image_size")
    torch.manual_seed(0)
    own = timm.create_model(name, num_classes=3, img_size=size).eval()
    for weight in (*network.parameters(), *own.parameters()):
        if weight.ndim > 1 and not weight.any():  # a classifier that starts from zero tells nothing
            weight.data = torch.linspace(-1, 1, weight.numel()).reshape(weight.shape)
    preprocessing = Preprocessing.from_config(config(name, **NETWORKS[name]))
    pixels = np.random.default_rng(0).integers(0, 256, (3, preprocessing.size, preprocessing.size, 3), np.uint8)
    with torch.inference_mode():
        expected = own(preprocessing.normalise(torch.from_numpy(pixels)))
        assert torch.equal(network(preprocessing.normalise(torch.from_numpy(pixels))), expected)
    found = torch.from_numpy(InferenceEngine(network, preprocessing=preprocessing, threads=1)(pixels))
    assert ((found - expected).abs() / expected.std(dim=0)).max() < 1e-3
    if "distilled" in name:
        assert not network.sequential
        return
    # What is frozen below the classifier is one vector an image, and the classifier makes the logits of it.
    start = network.head_start
    assert start == len(network.stage_names) - 1 or network.stage_names[-1].endswith("flatten")
    engine = InferenceEngine(network, stop=start, preprocessing=preprocessing, threads=1)
    features = engine(pixels)
    assert np.prod(features.shape[1:]) == own.get_classifier().weight.shape[1]
    with torch.inference_mode():
        logits = network.run(torch.from_numpy(features), start, None)
    assert ((logits - expected).abs() / expected.std(dim=0)).max() < 1e-3


def test_a_vision_transformer_is_cut_at_its_blocks() -> None:
    network = build("vit_tiny_patch16_224", image_size=32)
    assert network.stage_names[:2] == ("body", "blocks.0")
    assert "blocks.11" in network.stage_names
    with torch.inference_mode():
        images = torch.rand(2, 3, 32, 32)
        assert network.eval().run(images, 0, 2).shape == (2, 5, 192)
        assert torch.equal(network.run(network.run(images, 0, 7), 7, None), network(images))


def test_dense_layers_and_dropout_form_the_new_head() -> None:
    for name, width in (("convnext_atto", 320), ("dla46_c", 256)):
        network = build(name, dense=[16], dropout=0.5)
        head = nn.Sequential(*(network.stage(p) for p in range(network.head_start, len(network.stage_names))))
        drops = [module.p for module in network.modules() if type(module) in (nn.Dropout, nn.Dropout2d)]
        assert drops.count(0.5) == sum(type(m) in (nn.Dropout, nn.Dropout2d) for m in head.modules()) > 0
        assert next(p for p in head.parameters()).shape[:2] == (16, width)
        assert network.eval()(torch.rand(1, 3, 64, 64)).shape == (1, 3)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("convnext_tny", r"model.name: timm has no classifier 'convnext_tny'; did you mean 'convnext_tiny'\?"),
        ("convnext_tiny.fb_in2k", r"no weights 'fb_in2k' of convnext_tiny; did you mean 'fb_in22k'\?"),
        ("resnet18.zzzz", r"no weights 'zzzz' of resnet18; it has a1_in1k, a2_in1k"),
        ("qwen3_vit_88m_enc", "an encoder without a classifier"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest_one(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(name)


def test_what_a_network_cannot_take_is_named() -> None:
    with pytest.raises(ConfigError, match=r"model\.image_size: vit_tiny_patch16_224 can't take 8 pixels"):
        build("vit_tiny_patch16_224", image_size=8)
    with pytest.raises(ConfigError, match=r"model\.dense: levit_128s has 2 classifiers"):
        build("levit_128s", dense=[8])


def test_without_timm_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"timm isn't installed; install it with: .*\[timm\]"):
        build("resnet18")


def below_head(network: StagedNetwork) -> dict[str, torch.Tensor]:
    return {k.removeprefix("network."): v for k, v in network.state_between(0, network.head_start).items()}


@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224", "tresnet_m"])
def test_files_of_timm_and_of_runs_are_weights(name: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    published = timm.create_model(name, num_classes=10).state_dict()
    save_file(published, tmp_path / "published.safetensors")
    network = build(name, weights=str(tmp_path / "published.safetensors"))
    loaded = {key.removeprefix("body.") if name.startswith("vit") else key: v for key, v in below_head(network).items()}
    assert len(loaded) > 30
    assert all(torch.equal(value, published[key]) for key, value in loaded.items())
    save_file(network.network.state_dict(), tmp_path / "model.safetensors")
    again = build(name, weights=str(tmp_path / "model.safetensors")).network.state_dict()
    assert all(torch.equal(value, again[key]) for key, value in network.network.state_dict().items())


def test_the_hubs_cache_is_taken_and_an_unreachable_hub_named(tmp_path: Path) -> None:
    """Port 9 of this machine answers no one, so every download fails at once."""
    torch.manual_seed(1)
    state = timm.create_model("convnext_atto").state_dict()
    repository = tmp_path / "hub" / f"models--timm--{timm.get_pretrained_cfg('convnext_atto').hf_hub_id.split('/')[1]}"
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0" * 40)
    save_file(state, repository / "snapshots" / ("0" * 40) / "model.safetensors")
    program = (
        "import time, torch\n"
        "from raylight.config.schema import ModelConfig\n"
        "from raylight.errors import WeightsError\n"
        "from raylight.models.build import build_network\n"
        "network = build_network(ModelConfig(name='convnext_atto', family='timm', weights='DEFAULT'), 2)\n"
        "print(float(network.network.stem[0].weight.double().sum()))\n"
        "begin = time.monotonic()\n"
        "try:\n"
        "    build_network(ModelConfig(name='resnet18', family='timm', weights='DEFAULT'), 2)\n"
        "except WeightsError as error:\n"
        "    print(error)\n"
        "print(time.monotonic() - begin < 10)\n"
    )
    nowhere = dict.fromkeys(("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **nowhere, "HF_HUB_CACHE": str(tmp_path / "hub"), "no_proxy": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    total, problem, quick = done.stdout.splitlines()
    assert float(total) == pytest.approx(float(state["stem.0.weight"].double().sum()))
    assert "timm's resnet18 can't be downloaded from https://huggingface.co/timm/resnet18.a1_in1k" in problem
    assert "model.weights=/path/to/model.safetensors" in problem
    assert "model.weights=null" in problem
    assert quick == "True"


def test_what_timm_publishes_no_weights_for_is_named() -> None:
    with pytest.raises(WeightsError, match="timm publishes no weights for convnext_atto_rms"):
        build("convnext_atto_rms", weights="DEFAULT")


def test_a_transformers_height_and_width_may_differ() -> None:
    """A token a patch of 16 x 16 pixels, and one for the class: 2 x 4 + 1."""
    network = build("vit_tiny_patch16_224", image_size=[32, 64])
    with torch.inference_mode():
        images = torch.rand(2, 3, 32, 64)
        assert network.eval().run(images, 0, 2).shape == (2, 9, 192)
        assert torch.equal(network.run(network.run(images, 0, 7), 7, None), network(images))
