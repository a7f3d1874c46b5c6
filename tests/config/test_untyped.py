"""What the command line leaves open follows from the images and from the weights that are here."""

import http.server
import threading
from pathlib import Path

import pytest
from torchvision.models import MobileNet_V2_Weights, ResNet18_Weights

from raylight.config import untyped
from raylight.config.rules.pretrained import filled, weights_in
from raylight.config.schema import ModelConfig
from raylight.config.untyped import with_choices
from raylight.installation import OPTION_FILES


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """torch's cache, empty, on a machine from which nothing can be downloaded."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(untyped, "PLACE", "http://127.0.0.1:9/")
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.mark.parametrize(
    "typed",
    [
        [],
        ["data=demo"],
        ["seed=2", "data.limit=40"],
        ["experiment=xray_best", "data.root=films"],
        ["run=outputs/one"],
        ["resume=outputs/sweeps/one"],
        ["--config-name=config", "data.root=photos"],
        ["model=cnn2", "data=xray"],
        ["data=xray", "model.name=resnet50", "model.family=torchvision"],
    ],
)
def test_what_is_typed_or_whole_is_left_alone(typed: list[str], cache: Path) -> None:
    (cache / "resnet18-f37072fd.pth").touch()
    assert with_choices(typed) == (typed, [])


@pytest.mark.parametrize(
    ("root", "chosen"),
    [
        ("data.root=my/photos", ["data=folder", "data.name=photos"]),
        ("data.csv=a.csv", ["data=folder", "data.name=a"]),
        ("data.root='a=b.parquet'", ["data=parquet"]),
        ("data.root=all.TAR", ["data=tar", "data.name=all"]),
        ("data.root=/", ["data=folder"]),
        ("data.root=photos data.name=mine", ["data=folder"]),
        ("data.source.name=me/pets", ["data=hub", "data.name=pets"]),
        ("data=hub data.source.name=mnist", ["data.name=mnist"]),
        ("data=hub data.source.name=me/pets data.name=mine", []),
        ("data=hub data.source.name=me/pets,me/birds", []),
        ("data=hub data.source.name=me/pets-1.0", []),
        ("data=own data.source.name=me/pets", []),
    ],
)
def test_images_are_read_by_what_their_place_is_and_named_after_it(root: str, chosen: list[str], cache: Path) -> None:
    typed = [*root.split(), "model=cnn3"]
    assert with_choices(typed) == ([*typed, *chosen], [])


def test_the_network_is_the_better_one_whose_weights_are_here(cache: Path) -> None:
    (cache / "resnet18-f37072fd.pth").touch()
    assert with_choices(["-m", "data=xray", "seed=1,2"])[0] == ["-m", "data=xray", "seed=1,2", "model=resnet18"]
    (cache / "mobilenet_v2-7ebf99e0.pth").touch()
    found, (sentence,) = with_choices(["data.root=photos"])
    assert found == ["data.root=photos", "data=folder", "data.name=photos", "model=mobilenet_v2"]
    assert sentence == f"model=mobilenet_v2: pretrained, its weights are in {cache}; model=NAME takes another."


def test_weights_that_arent_the_default_ones_are_named(cache: Path) -> None:
    """torchvision's default weights of MobileNetV2 are its second; with the first in the cache it would download them."""
    first, second = (Path(weights.url).name for weights in MobileNet_V2_Weights)
    assert MobileNet_V2_Weights.DEFAULT.url.endswith(second)
    assert {"mobilenet_v2": second, "resnet18": Path(ResNet18_Weights.DEFAULT.url).name} == untyped.PRETRAINED
    (cache / first).touch()
    found, (sentence,) = with_choices(["data=xray"])
    assert found == ["data=xray", "model=mobilenet_v2", f"model.weights='{cache / first}'"]
    assert sentence.startswith(f"model=mobilenet_v2: pretrained, with {cache / first}, which isn't the newest file;")
    (cache / second).touch()
    assert with_choices(["data=xray"])[0] == ["data=xray", "model=mobilenet_v2"]


def test_without_weights_a_small_network_learns_and_what_is_missing_is_said(cache: Path) -> None:
    found, (sentence,) = with_choices(["data=catsdogs"])
    assert found == ["data=catsdogs", "model=cnn5"]
    assert f"there are no published ones in {cache}, and http://127.0.0.1:9/ can't be reached" in sentence
    assert sentence.endswith("copy its file here and give model=mobilenet_v2 model.weights=FILE.")
    assert with_choices(["data=xray", "model.weights=null"])[0][-1] == "model=cnn5"


def test_a_place_that_answers_is_downloaded_from(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoPage(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_error(403)

    with http.server.HTTPServer(("127.0.0.1", 0), NoPage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        place = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(untyped, "PLACE", place)
        found, (sentence,) = with_choices(["data=xray"])
        server.shutdown()
    assert found[-1] == "model=mobilenet_v2"
    assert f"its weights come from {place}" in sentence


def test_weights_are_found_in_a_folder_by_the_networks_name(tmp_path: Path, cache: Path) -> None:
    for name in ("resnet18.pt", "resnet180.pt", "mobilenet_v2-7ebf99e0.pth", "mobilenet_v3.txt"):
        (tmp_path / name).touch()
    assert weights_in(tmp_path, "resnet18") == tmp_path / "resnet18.pt"
    assert weights_in(tmp_path, "mobilenet_v2") == tmp_path / "mobilenet_v2-7ebf99e0.pth"
    assert weights_in(tmp_path, "mobilenet_v3") is None
    assert weights_in(tmp_path / "none", "resnet18") is None
    model = ModelConfig(name="resnet18", family="torchvision", weights=str(tmp_path))
    assert filled(model).weights == str(tmp_path / "resnet18.pt")
    assert with_choices([f"model.weights={tmp_path}", "data.root=films"])[0][-1] == "model=mobilenet_v2"
    assert with_choices(["model.weights=w/resnet18.pt", "data.root=films"])[0][-1] == "model=resnet18"
    assert with_choices(["model.weights=w/best.ckpt", "data.root=films"])[0][-1] == "data.name=films"
    assert with_choices([f"model.weights={tmp_path / 'none'}", "data.root=films"])[0][-1] == "data.name=films"


def test_medical_images_are_never_mirrored_unless_that_is_typed(cache: Path) -> None:
    typed = ["data=folder", "data.root=films", "model=cnn2", "data.medical=true"]
    added, said = with_choices(typed)
    assert added == [*typed, "augment=xray"]
    assert said == ["augment=xray: medical images are never mirrored; augment=NAME takes another."]
    assert "Flip" not in (OPTION_FILES / "augment" / "xray.yaml").read_text()
    assert with_choices([*typed, "augment=flip"]) == ([*typed, "augment=flip"], [])
    assert with_choices([*typed[:3], "data.medical=false"])[1] == []
