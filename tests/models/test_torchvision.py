import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from raylight.config.schema import ModelConfig
from raylight.config.shapes import smallest_image_size
from raylight.errors import ConfigError, WeightsError
from raylight.models.build import build_network
from raylight.models.stages import StagedNetwork, split_head, whole

NAME = "shufflenet_v2_x0_5"


def build(name: str = NAME, n_classes: int = 2, **settings: object) -> StagedNetwork:
    return build_network(ModelConfig(name=name, family="torchvision", **settings), n_classes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def original() -> dict[str, torch.Tensor]:
    """torchvision's own state dict with 1,000 classes."""
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = models.get_model(NAME).state_dict()
    return state


def body(network: StagedNetwork) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.network.state_dict().items() if not name.startswith("fc.")}


def test_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="no classifier 'resnet81'; did you mean 'resnet18'"):
        build("resnet81")


def test_dropout_is_set_once_where_torchvision_has_its_own() -> None:
    network = build("mobilenet_v2", dropout=0.3)
    dropouts = [module for module in network.modules() if isinstance(module, nn.Dropout)]
    assert [dropout.p for dropout in dropouts] == [0.3]
    assert network.stage_names[network.head_start :] == ("classifier.0", "classifier.1")


def test_dense_layers_and_dropout_form_the_new_head() -> None:
    network = build("resnet18", n_classes=4, dense=[64], dropout=0.5)
    head = [network.stage(position) for position in range(network.head_start, len(network.stage_names))]
    assert [type(module).__name__ for module in head] == ["Dropout", "Linear", "ReLU", "Dropout", "Linear"]
    assert (head[1].in_features, head[1].out_features, head[4].out_features) == (512, 64, 4)


def test_squeezenet_can_say_no() -> None:
    torch.manual_seed(0)
    logits = build("squeezenet1_1", dense=[8])(torch.randn(8, 3, 64, 64))
    assert logits.shape == (8, 2)
    assert (logits < 0).any()


@pytest.mark.parametrize("name", ["alexnet", NAME])
def test_smallest_image_size_of_torchvision_networks_works(name: str) -> None:
    size = smallest_image_size(ModelConfig(name=name, family="torchvision"))
    assert build(name).eval()(torch.zeros(1, 3, size, size)).shape == (1, 2)
    if size > 32:
        with pytest.raises(RuntimeError):
            build(name).eval()(torch.zeros(1, 3, size - 1, size - 1))


@pytest.mark.parametrize(
    "kind",
    [
        *(
            "pt",
            "safetensors",
            "half",
            "checkpoint",
            "module.",
            "model.",
            "_orig_mod.",
            "module._orig_mod.",
            "model.network.",
        ),
        *("model_state_dict", "model"),
    ],
)
def test_weights_of_another_class_count_fill_all_but_the_head(
    kind: str, original: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    path = tmp_path / ("weights.safetensors" if kind == "safetensors" else "weights.pt")
    state = {
        name: value.half() if kind == "half" and value.is_floating_point() else value
        for name, value in original.items()
    }
    if kind == "safetensors":
        save_file(state, path)
    elif kind.endswith("."):
        torch.save({f"{kind}{name}": value for name, value in state.items()}, path)
    elif kind.startswith("model"):
        torch.save({kind: state, "optimizer": {"lr": 0.1}}, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if kind == "checkpoint" else state, path)
    loaded = body(build(weights=str(path)))
    assert all(value.dtype == original[name].dtype for name, value in loaded.items())
    assert all(torch.equal(value, state[name].to(value.dtype)) for name, value in loaded.items())


def test_own_weights_fill_the_head_too(tmp_path: Path) -> None:
    network = build(n_classes=3, dense=[5])
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    again = build(n_classes=3, dense=[5], weights=str(tmp_path / "model.safetensors"))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())


def test_a_run_and_its_checkpoints_are_weights(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A checkpoint's names are those of the LightningModule, which holds the network that was exported."""
    network = build(n_classes=3)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "checkpoints").mkdir()
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3, "loops": {}}, tmp_path / "checkpoints" / "best.ckpt")
    for path in (tmp_path, tmp_path / "model.safetensors", tmp_path / "checkpoints" / "best.ckpt"):
        again = build(n_classes=3, weights=str(path))
        assert all(torch.equal(value, network.state_dict()[name]) for name, value in again.state_dict().items())
    assert "other classes" not in caplog.text
    with caplog.at_level("INFO", "raylight"):
        other = build(n_classes=5, weights=str(tmp_path))
    assert all(torch.equal(value, body(network)[name]) for name, value in body(other).items())
    assert "all but the head (fc), which was made for other classes, is taken" in caplog.text


def test_names_of_a_network_that_was_cut_are_those_it_had() -> None:
    head = torch.nn.Linear(2, 2)
    heads = nn.Module()
    heads.heads = nn.ModuleDict({"head": head})
    heads.conv = nn.Conv2d(3, 2, 1)
    heads.forward = lambda images: heads.heads["head"](heads.conv(images).mean((2, 3)))
    before = dict(heads.state_dict())
    network = split_head(heads, "heads.head", 20)
    assert network is not None
    again = whole(network.network.state_dict(), "heads.head")
    assert set(network.network.state_dict()) != again.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in again.items())
    assert whole(before, "heads.head") is before


def test_convnets_load_weights_too(tmp_path: Path) -> None:
    model = ModelConfig(channels=[4, 4], dense=[6], image_size=16)
    network = build_network(model, 3)
    torch.save(network.network.state_dict(), tmp_path / "cnn.pt")
    model.weights = str(tmp_path / "cnn.pt")
    other = build_network(model, 2)
    assert torch.equal(other.network.block1.conv.weight, network.network.block1.conv.weight)
    model.weights = "DEFAULT"
    with pytest.raises(WeightsError, match=r"no published weights for cnn2; use model\.weights=null or"):
        build_network(model, 2)


def test_what_does_not_fit_is_listed(original: dict[str, torch.Tensor], tmp_path: Path) -> None:
    broken = dict(original)
    del broken["conv1.0.weight"]
    broken["conv5.0.weight"] = torch.zeros(2, 2)
    broken["surplus.weight"] = torch.zeros(1)
    torch.save(broken, tmp_path / "broken.pt")
    with pytest.raises(WeightsError) as error:
        build(weights=str(tmp_path / "broken.pt"))
    message = str(error.value)
    assert "broken.pt" in message
    assert "1 missing (conv1.0.weight)" in message
    assert "1 unknown (surplus.weight)" in message
    assert "1 of another shape (conv5.0.weight (2, 2) for (1024, 192, 1, 1))" in message
    assert "model.weights=null" in message


def test_missing_file_is_named() -> None:
    with pytest.raises(
        WeightsError, match=r"there is no file '/nowhere/w\.pt'; give the path of a state dict, DEFAULT, or null"
    ):
        build(weights="/nowhere/w.pt")


class Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.target}",)


def test_code_in_a_weights_file_is_never_run(tmp_path: Path) -> None:
    for kind in ("zip", "pickle"):
        path = tmp_path / f"{kind}.pt"
        if kind == "zip":
            torch.save({"conv1.0.weight": Attack(tmp_path / "owned")}, path)
        else:
            path.write_bytes(pickle.dumps(Attack(tmp_path / "owned")))
        with pytest.raises(WeightsError, match="isn't loaded, since that could run code"):
            build(weights=str(path))
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 half a zip"])
@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_damaged_files_are_named(content: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=f"model.weights: .*damaged{suffix}"):
        build(weights=str(path))


def test_file_without_a_state_dict_is_named(tmp_path: Path) -> None:
    torch.save([1, 2, 3], tmp_path / "list.pt")
    with pytest.raises(WeightsError, match="holds a list, not a state dict"):
        build(weights=str(tmp_path / "list.pt"))


def test_weights_that_cannot_be_downloaded_are_an_error_with_both_ways_out(tmp_path: Path) -> None:
    program = (
        "from raylight.config.schema import ModelConfig\n"
        "from raylight.errors import WeightsError\n"
        "from raylight.models.build import build_network\n"
        "try:\n"
        "    build_network(ModelConfig(name='resnet18', family='torchvision', weights='DEFAULT'), 2)\n"
        "except WeightsError as error:\n"
        "    print(error)\n"
    )
    # Port 9 of this machine answers no one, so every download fails at once.
    nowhere = dict.fromkeys(("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY"), "http://127.0.0.1:9")
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **nowhere, "TORCH_HOME": str(tmp_path), "no_proxy": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "ResNet18_Weights.IMAGENET1K_V1 can't be downloaded" in done.stdout
    assert "model.weights=/path/to/state_dict.pt" in done.stdout
    assert "model.weights=null" in done.stdout
