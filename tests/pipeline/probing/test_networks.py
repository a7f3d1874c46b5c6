"""What is at hand is found where torch, the hub and users keep weights; names that nobody has are sentences."""

from pathlib import Path

import pytest

from raylight.errors import ConfigError, WeightsError
from raylight.pipeline.probing.networks import Candidate, candidates


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Torch's cache and the hub's, both empty."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = tmp_path / "torch/hub/checkpoints"
    folder.mkdir(parents=True)
    return folder


def test_torchs_cache_is_searched_by_the_names_of_published_files(cache: Path) -> None:
    from torchvision.models import MobileNet_V2_Weights, ResNet18_Weights, ResNet50_Weights

    published = (ResNet18_Weights.DEFAULT, ResNet50_Weights.IMAGENET1K_V1, *MobileNet_V2_Weights)
    for weights in published:
        (cache / Path(weights.url).name).touch()
    (cache / "resnet34.pth").touch()  # which nobody published under this name
    older = str(cache / Path(ResNet50_Weights.IMAGENET1K_V1.url).name)
    found = {
        "mobilenet_v2": Candidate("mobilenet_v2", "torchvision", "DEFAULT"),
        "resnet18": Candidate("resnet18", "torchvision", "DEFAULT"),
        "resnet50": Candidate("resnet50", "torchvision", older),
    }
    assert candidates([], None) == tuple(found.values())
    assert candidates(["resnet50", "resnet50", "resnet34"], None) == (
        found["resnet50"],
        Candidate("resnet34", "torchvision", "DEFAULT"),  # to be downloaded
    )


def test_a_folder_is_searched_by_networks_names_and_comes_first(cache: Path, tmp_path: Path) -> None:
    from torchvision.models import ResNet18_Weights

    (cache / Path(ResNet18_Weights.DEFAULT.url).name).touch()
    folder = tmp_path / "weights"
    folder.mkdir()
    for name in ("resnet18.pt", "mobilenet_v2-7ebf99e0.pth", "convnext_tiny.fb_in22k.safetensors", "notes.txt", "x.pt"):
        (folder / name).touch()
    assert [(one.name, one.family, one.weights) for one in candidates([], str(folder))] == [
        ("convnext_tiny.fb_in22k", "timm", str(folder / "convnext_tiny.fb_in22k.safetensors")),
        ("mobilenet_v2", "torchvision", str(folder / "mobilenet_v2-7ebf99e0.pth")),
        ("resnet18", "torchvision", str(folder / "resnet18.pt")),
    ]
    assert candidates(["resnet18"], str(folder))[0].weights == str(folder / "resnet18.pt")
    assert candidates(["resnet18:random"], str(folder))[0].weights is None
    assert candidates(["resnet18"], "null")[0].weights is None


def test_the_hubs_cache_is_searched_for_timms_files(cache: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub/models--timm--resnet10t.c3_in1k"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text("abc")
    (repository / "snapshots/abc").mkdir(parents=True)
    (tmp_path / "hub/models--timm--resnet14t.c3_in1k").mkdir()  # begun, but not downloaded
    with pytest.raises(WeightsError):
        candidates([], None)
    (repository / "snapshots/abc/model.safetensors").touch()
    assert candidates([], None) == (Candidate("resnet10t.c3_in1k", "timm", "DEFAULT"),)


def test_what_is_missing_is_named(cache: Path, tmp_path: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"No pretrained network is available: .*checkpoints has no weights .*models=resnet18"
    ):
        candidates([], None)
    with pytest.raises(ConfigError, match="torchvision has no classifier 'resnt18'; did you mean 'resnet18'"):
        candidates(["resnt18"], None)
    with pytest.raises(ConfigError, match="nowhere is no folder; expected one with files by networks' names"):
        candidates([], "nowhere")


def test_a_candidate_is_typed_as_train_py_takes_it() -> None:
    assert Candidate("resnet18", "torchvision", "DEFAULT").typed == "model=resnet18"
    assert Candidate("resnet50", "torchvision", "/a b/resnet50.pt").typed == (
        "model=torchvision model.name=resnet50 \"model.weights='/a b/resnet50.pt'\""
    )
    assert (
        Candidate("resnet50", "torchvision", None).typed == "model=torchvision model.name=resnet50 model.weights=null"
    )
    assert Candidate("resnet10t.c3_in1k", "timm", "DEFAULT").typed == (
        "model=timm model.name=resnet10t.c3_in1k finetune=recommended"
    )
