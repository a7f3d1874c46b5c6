"""``raylight export``: the file alone, in its own runtime, gives the run's probabilities."""

import ast
import io
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import Result

from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index
from raylight.installation import install_command
from raylight.serving.exports import command, resizing
from raylight.serving.exports.check_images import CheckImages, original_image
from raylight.serving.exports.formats import FORMATS
from raylight.serving.exports.network import ServedNetwork
from raylight.serving.predictor import Predictor
from tests.forked import ROOT
from tests.trained_run import move_images

Command = Callable[..., Result]


def test_images(run: Path, images: Path) -> np.ndarray:
    paths = Index.read(run / "index.parquet").in_split("test").column("path")
    return np.stack([decode_image((images / path).read_bytes(), DecodeSpec(32, "stretch")) for path in paths])


test_images.__test__ = False  # type: ignore[attr-defined]


def test_onnx_file_gives_the_runs_probabilities(
    raylight: Command,
    run: Path,
    images: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From pixels of any size; the run's images are too small to be scaled while they are decoded."""
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="checking an ONNX file needs onnxruntime: install raylight with its extra export"
    )
    pytest.importorskip(
        "onnxscript", reason="writing an ONNX file needs onnxscript: install raylight with its extra export"
    )
    out = tmp_path / "new" / "model.onnx"

    done = raylight("export", run, "--out", out)

    assert done.exit_code == 0, done.output
    assert "on 8 of its test images: resizing within" in done.stdout
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"], "one file, and nothing left behind"
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    paths = [images / path for path in Index.read(run / "index.parquet").in_split("test").column("path")]
    wanted = Predictor.open(run, precision="fp32").probabilities(test_images(run, images))
    for path, row in zip(paths, wanted, strict=True):
        pixels = np.asarray(Image.open(path).convert("RGB"))
        (given,) = session.run(["probabilities"], {"images": pixels[None]})
        # Some pixels are resized to the next level; the network hasn't learnt to ignore that in its few steps.
        np.testing.assert_allclose(given[0], row, atol=3e-3)
    facts = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    stored = json.loads((run / "preprocessing.json").read_text())
    assert facts["class_names"] == ["left", "right"]
    assert facts["positive_class"] == "right"
    for name in ("threshold", "temperature", "mean", "std"):
        assert facts[name] == stored[name]
    assert (facts["size"], facts["resize"], facts["prepared"], facts["title"]) == (
        32,
        "stretch",
        False,
        "cnn2 on folder",
    )
    shutil.copy(paths[0], tmp_path / "new" / "photo.jpg")
    monkeypatch.chdir(tmp_path / "new")
    (example,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "docs/exporting.md").read_text(), re.DOTALL | re.MULTILINE
    )
    exec(example, shown := {})
    np.testing.assert_allclose(shown["probabilities"][0], wanted[0], atol=1e-3)
    printed = ast.literal_eval(capsys.readouterr().out.splitlines()[-1])
    assert printed == dict(zip(["left", "right"], shown["probabilities"][0].tolist(), strict=True))
    measured = json.loads((run / "metrics.json").read_text())["test/accuracy"]
    assert facts["accuracy"] == {name: measured[name] for name in ("value", "low", "high", "n")}


def test_prepared_images_are_not_resized_again(raylight: Command, run: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.pt2"

    done = raylight("export", run, "--format", "torch_export", "--prepared", "--out", out)

    assert done.exit_code == 0, done.output
    assert "of the run's on 24 of its test images" in done.stdout
    extra = {"raylight.json": ""}
    module = torch.export.load(out, extra_files=extra).module()
    pixels = test_images(run, images)
    wanted = Predictor.open(run, precision="fp32").probabilities(pixels)
    for count in (1, 24):
        (given,) = module(torch.from_numpy(pixels[:count]))
        np.testing.assert_allclose(given.numpy(), wanted[:count], atol=1e-4)
    facts = json.loads(extra["raylight.json"])
    assert (facts["class_names"], facts["prepared"]) == (["left", "right"], True)


@pytest.mark.parametrize(
    ("classes", "model"),
    [(("a", "b"), {"head": "sigmoid"}), (("a", "b", "c"), {"batch_norm": True, "normalize": "imagenet"})],
    ids=["sigmoid", "three classes"],
)
def test_every_head_is_exported_and_checked_without_data(
    raylight: Command, untrained: Callable[..., Path], classes: tuple[str, ...], model: dict[str, object]
) -> None:
    run = untrained(classes, temperature=0.3, **model)

    done = raylight("export", run, "--format", "torch_export")

    assert done.exit_code == 0, done.output
    assert "4 random images, since its test images are gone" in done.stdout
    pixels = np.random.default_rng(1).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    found = torch.export.load(run / "model.pt2").module()(torch.from_numpy(pixels))
    given = found[0].numpy()
    np.testing.assert_allclose(given, Predictor.open(run, precision="fp32").probabilities(pixels), atol=1e-4)


def test_images_that_are_gone_are_replaced_by_noise_and_it_says_so(
    raylight: Command, copied_run: Path, tmp_path: Path
) -> None:
    move_images(copied_run, tmp_path / "gone")

    done = raylight("export", copied_run, "--format", "torch_export")

    assert done.exit_code == 0
    assert "on 4 random images" in done.stdout


def test_a_file_that_fails_its_check_is_not_kept(
    raylight: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(command.ServedNetwork):
        """Forgets the temperature, as an exporter might."""

        def __init__(self, predictor: Predictor, resizer: str | None) -> None:
            super().__init__(replace(predictor, temperature=predictor.temperature * 2), resizer)

    monkeypatch.setattr(command, "ServedNetwork", Wrong)
    (tmp_path / "model.pt2").write_text("an older export")

    done = raylight("export", run, "--format", "torch_export", "--out", tmp_path / "model.pt2")

    assert done.exit_code == 1
    assert "gives other probabilities than the run" in done.stderr
    assert "8 of its test images" in done.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an older export"]


def test_a_file_that_resizes_otherwise_is_not_kept(
    raylight: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = resizing.axis_weights
    monkeypatch.setattr(resizing, "axis_weights", lambda *given: weights(*given[:2], given[2] - 0.5, given[3]))

    done = raylight("export", run, "--format", "torch_export", "--out", tmp_path / "model.pt2")

    assert done.exit_code == 1
    assert "The file resizes otherwise than the run" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "web", "--prepared"), "--prepared: people drop pictures of any size on a page"),
        (("--runtime", "somewhere"), "--runtime: only a page needs ONNX Runtime Web"),
        (("--format", "web", "--runtime", "nowhere"), "--runtime: nowhere lacks package.json"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    raylight: Command, run: Path, options: tuple[str, ...], message: str
) -> None:
    done = raylight("export", run, *options)
    assert done.exit_code == 2
    assert message in done.stderr


def test_a_missing_extra_is_named(raylight: Command, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)

    done = raylight("export", run)

    assert done.exit_code == 1
    assert "onnxruntime" in done.stderr
    assert f"onnxruntime, which isn't here: {install_command('export')}" in done.stderr


def test_a_run_that_is_read_only_is_exported_elsewhere(
    raylight: Command, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = os.access
    monkeypatch.setattr(
        os, "access", lambda path, mode: mode != os.W_OK | os.X_OK and access(path, mode)
    )  # root may all
    done = raylight("export", run)
    assert done.exit_code == 2
    assert f"{run} is read-only here; name a file elsewhere: --out FILE" in done.stderr


def test_an_unknown_format_gets_a_suggestion(raylight: Command, run: Path) -> None:
    done = raylight("export", run, "--format", "onxx")

    assert done.exit_code == 2
    assert "there is no format 'onxx'; did you mean 'onnx'?" in done.stderr


@pytest.mark.parametrize(
    ("files", "cause"),
    [
        ([("PNG", 600), ("PNG", 40)], command.REDUCED[False]),
        ([("JPEG", 600), ("PNG", 40)], command.REDUCED[True]),
        ([("PNG", 40), ("PNG", 50)], ""),
    ],
    ids=["large PNG", "large JPEG", "small"],
)
def test_the_cause_of_other_pixels_is_named_where_there_are_some(
    run: Path, files: list[tuple[str, int]], cause: str
) -> None:
    predictor = Predictor.open(run, precision="fp32")
    spec = predictor.preprocessing.decode_spec
    stored = []
    for kind, side in files:
        noise = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
        Image.fromarray(noise).save(content := io.BytesIO(), kind)
        stored.append(content.getvalue())
    images = CheckImages(
        np.stack([decode_image(data, spec) for data in stored]),
        [(k, original_image(data)) for k, data in enumerate(stored)],
        [kind == "JPEG" for kind, _ in files],
        real=True,
        resizer="pillow",
    )
    served = ServedNetwork(predictor, "pillow").eval()

    @torch.inference_mode()
    def opened(pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value.numpy() for name, value in zip(served.outputs, served(torch.tensor(pixels)), strict=True)}

    found = command._checked(opened, images, predictor)
    assert re.search(r" within [01] of 255 of the run's in one step, .* \(median\) to [\d.e+-]+", found)
    assert found.partition(" (median) to ")[2].partition(": ")[2] == cause


@pytest.mark.real_data
def test_real_photos_and_films_are_predicted_as_by_the_run(
    untrained: Callable[..., Path], real_data: Path, tmp_path: Path
) -> None:
    """Of a network that isn't touchy about single levels; films are decoded at a fraction of their size by the run."""
    run = untrained(("a", "b"), resize="crop", normalize="imagenet")
    assert command.export_run(run, "onnx", tmp_path / "model.onnx") == 0
    opened = FORMATS["onnx"].open(tmp_path / "model.onnx")
    paths = sorted((real_data / "dogs-vs-cats/train").glob("*.jpg"))[::100]
    paths += sorted((real_data / "xray_dataset_covid19/test").rglob("*.*"))[::8]
    blocks = Predictor.open(run, precision="fp32").predict_files(paths)
    probabilities = np.concatenate([block.probabilities for block in blocks])
    spread = np.ptp(probabilities[:, 0])
    for path, wanted in zip(paths, probabilities, strict=True):
        found = opened(np.asarray(Image.open(path).convert("RGB"))[None])["probabilities"][0]
        np.testing.assert_allclose(found, wanted, atol=min(1e-3, spread / 10), err_msg=str(path))
