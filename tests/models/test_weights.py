"""Weights from files and from torchvision: what is taken, what is refused, and how that is said."""

import logging
import os
import pickle
import urllib.request
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision import models

from raylight.errors import WeightsError
from raylight.models.stages import StagedNetwork
from raylight.models.weights import load_saved, load_state, read_state
from tests.models.families.test_torchvision import NAME, build


@pytest.fixture(scope="module")
def original() -> dict[str, torch.Tensor]:
    """torchvision's own state dict with 1,000 classes."""
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = models.get_model(NAME).state_dict()
    return state


def body(network: StagedNetwork) -> dict[str, torch.Tensor]:
    return {name: value for name, value in network.network.state_dict().items() if not name.startswith("fc.")}


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
    assert "loaded except for the head (fc), which was made for other classes" in caplog.text


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


def test_a_run_saved_with_other_stages_is_refused_with_what_to_do() -> None:
    network = nn.Sequential(OrderedDict(body=nn.Linear(2, 3), head=nn.Linear(3, 2)))
    load_saved(network, saved := {name: value + 1 for name, value in network.state_dict().items()}, "last.ckpt")
    assert all(torch.equal(value, saved[name]) for name, value in network.state_dict().items())
    renamed = {name.replace("body.", "a."): value for name, value in saved.items()}
    with pytest.raises(WeightsError) as caught:
        load_saved(network, renamed, "last.ckpt")
    assert str(caught.value) == (
        "last.ckpt doesn't fit the network of the run's config.yaml: 2 missing (body.bias, body.weight); 2 unknown (a.bias, "
        "a.weight). The settings or the code of the network have changed, or an earlier version of Raylight divided it into "
        "other stages; train it again"
    )


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


def test_weights_that_cannot_be_downloaded_are_an_error_with_both_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(urllib.request, "_opener", None)  # it keeps the proxies of its first use
    monkeypatch.setenv("no_proxy", "")
    for name in ("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # no one answers there, so every download fails at once
    with pytest.raises(WeightsError, match=r"ResNet18_Weights.IMAGENET1K_V1 can't be downloaded") as error:
        build("resnet18", weights="DEFAULT")
    assert "model.weights=/path/to/state_dict.pt" in str(error.value)
    assert "model.weights=null" in str(error.value)


def tiny(**layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(OrderedDict(layers))


@pytest.mark.parametrize("count", [5, 6, 9])
def test_at_most_five_tensors_are_named(count: int) -> None:
    network = tiny(body=nn.Linear(2, 2))
    surplus = {f"x{i}": torch.zeros(1) for i in range(count)} | network.state_dict()
    more = f" and {count - 5} more" if count > 5 else ""
    with pytest.raises(WeightsError, match=rf"{count} unknown \(x0, x1, x2, x3, x4{more}\)\. Only the head may differ"):
        load_state(network, surplus, ["head"], "w.pt")


def test_auxiliary_classifiers_and_step_counters_may_be_missing_or_too_many() -> None:
    network = tiny(norm=nn.BatchNorm1d(2), head=nn.Linear(2, 2))
    state = {name: value for name, value in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    state |= {"norm.running_mean": torch.ones(2), "AuxLogits.fc.weight": torch.zeros(1)}
    load_state(network, state, ["head"], "w.pt")
    assert network.norm.running_mean.tolist() == [1, 1]
    del state["norm.running_var"]
    with pytest.raises(WeightsError, match=r"1 missing \(norm.running_var\)"):
        load_state(network, state, ["head"], "w.pt")


@pytest.mark.parametrize("head", ["fits", "other classes", "absent", "half of it"])
def test_the_head_is_taken_whole_or_not_at_all(head: str, caplog: pytest.LogCaptureFixture) -> None:
    source = tiny(body=nn.Linear(2, 2), head=nn.Linear(2, 5 if head == "other classes" else 3))
    network, state = tiny(body=nn.Linear(2, 2), head=nn.Linear(2, 3)), dict(source.state_dict())
    if head == "absent":
        state = {name: value for name, value in state.items() if name.startswith("body")}
    if head == "half of it":
        del state["head.bias"]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    logging.getLogger("raylight").propagate = True
    with caplog.at_level("INFO", "raylight"):
        load_state(network, state, ["head"], "w.pt")
    after = network.state_dict()
    assert all(torch.equal(after[name], source.state_dict()[name]) for name in ("body.weight", "body.bias"))
    for name in ("head.weight", "head.bias"):
        assert torch.equal(after[name], source.state_dict()[name] if head == "fits" else before[name])
    told = "w.pt: loaded except for the head (head), which was made for other classes"
    assert (told in caplog.text) == (head in ("other classes", "half of it"))


def test_versions_by_which_modules_translate_older_weights_are_kept() -> None:
    class Versioned(nn.Linear):
        _version = 3
        seen: int | None = None

        def _load_from_state_dict(self, state: Any, prefix: str, metadata: Any, *rest: Any) -> None:
            self.seen = metadata.get("version")
            super()._load_from_state_dict(state, prefix, metadata, *rest)

    network = tiny(body=Versioned(2, 2))
    load_state(network, network.state_dict(), [], "w.pt")
    assert network.body.seen == 3


def test_a_name_of_its_own_and_a_prefix_are_taken_off_only_where_all_have_it(tmp_path: Path) -> None:
    state = {"model.a": torch.ones(1), "other.b": torch.zeros(1)}
    torch.save(state, tmp_path / "w.pt")
    assert set(read_state(str(tmp_path / "w.pt"))) == {"model.a", "other.b"}
    torch.save({"state_dict": {"module.model.a": torch.ones(1)}}, tmp_path / "w.pt")
    assert set(read_state(str(tmp_path / "w.pt"))) == {"a"}
    for empty in ({}, {"state_dict": {}}, {"a": 1}):
        torch.save(empty, tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=r"w\.pt holds a (dict|OrderedDict), not a state dict"):
            read_state(str(tmp_path / "w.pt"))


def test_a_network_that_is_all_head_takes_weights_of_its_own_classes() -> None:
    source, network = tiny(head=nn.Linear(2, 3)), tiny(head=nn.Linear(2, 3))
    load_state(network, source.state_dict(), ["head"], "w.pt")
    assert torch.equal(network.head.weight, source.head.weight)
