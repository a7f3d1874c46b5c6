"""``raylight export``: the file alone, in its own runtime, gives the run's probabilities."""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import Result

from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index
from raylight.installation import install_command
from raylight.serving import export
from raylight.serving.predictor import Predictor
from tests.trained_run import move_images

Command = Callable[..., Result]


def test_images(run: Path, images: Path) -> np.ndarray:
    paths = Index.read(run / "index.parquet").in_split("test").column("path")
    return np.stack([decode_image((images / path).read_bytes(), DecodeSpec(32, "stretch")) for path in paths])


test_images.__test__ = False  # type: ignore[attr-defined]


def test_onnx_file_gives_the_runs_probabilities(raylight: Command, run: Path, images: Path, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip(
        "onnxruntime", reason="checking an ONNX file needs onnxruntime: install raylight with its extra export"
    )
    pytest.importorskip(
        "onnxscript", reason="writing an ONNX file needs onnxscript: install raylight with its extra export"
    )
    out = tmp_path / "new" / "model.onnx"

    done = raylight("export", run, "--out", out)

    assert done.exit_code == 0, done.output
    assert "of the run's on 24 of its test images" in done.stdout
    assert [path.name for path in out.parent.iterdir()] == ["model.onnx"], "one file, and nothing left behind"
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    (given,), (claimed,) = session.get_inputs(), session.get_outputs()
    assert (given.shape, claimed.shape) == (["batch", 32, 32, 3], ["batch", 2])
    pixels = test_images(run, images)
    wanted = Predictor.open(run, precision="fp32").probabilities(pixels)
    for count in (1, 2, 24):
        (given,) = session.run(None, {"images": pixels[:count]})
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, wanted[:count], atol=1e-4)
    facts = {name: json.loads(value) for name, value in session.get_modelmeta().custom_metadata_map.items()}
    assert facts["class_names"] == ["left", "right"]
    assert facts["positive_class"] == "right"
    assert facts["threshold"] == json.loads((run / "preprocessing.json").read_text())["threshold"]
    assert (facts["size"], facts["resize"]) == (32, "stretch")


def test_torch_export_file_gives_the_runs_probabilities(raylight: Command, run: Path, images: Path) -> None:
    done = raylight("export", run, "--format", "torch_export")

    assert done.exit_code == 0, done.output
    extra = {"raylight.json": ""}
    module = torch.export.load(run / "model.pt2", extra_files=extra).module()
    pixels = test_images(run, images)
    wanted = Predictor.open(run, precision="fp32").probabilities(pixels)
    for count in (1, 24):
        np.testing.assert_allclose(module(torch.from_numpy(pixels[:count])).numpy(), wanted[:count], atol=1e-4)
    assert json.loads(extra["raylight.json"])["class_names"] == ["left", "right"]
    (run / "model.pt2").unlink()


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
    assert "random images, since its test images are no longer there" in done.stdout
    pixels = np.random.default_rng(1).integers(0, 256, (5, 24, 24, 3), dtype=np.uint8)
    given = torch.export.load(run / "model.pt2").module()(torch.from_numpy(pixels)).numpy()
    np.testing.assert_allclose(given, Predictor.open(run, precision="fp32").probabilities(pixels), atol=1e-4)


def test_images_that_are_gone_are_replaced_by_noise_and_it_says_so(
    raylight: Command, copied_run: Path, tmp_path: Path
) -> None:
    move_images(copied_run, tmp_path / "gone")

    done = raylight("export", copied_run, "--format", "torch_export")

    assert done.exit_code == 0
    assert "on 32 random images" in done.stdout


def test_a_file_that_fails_its_check_is_not_kept(
    raylight: Command, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(export.ServedNetwork):
        """Forgets the temperature, as an exporter might."""

        def __init__(self, network: object, preprocessing: object, temperature: float) -> None:
            super().__init__(network, preprocessing, temperature * 2)  # type: ignore[arg-type]

    monkeypatch.setattr(export, "ServedNetwork", Wrong)
    (tmp_path / "model.pt2").write_text("an older export")

    done = raylight("export", run, "--format", "torch_export", "--out", tmp_path / "model.pt2")

    assert done.exit_code == 1
    assert "gives other probabilities than the run" in done.stderr
    assert "24 of its test images" in done.stderr
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an older export"]


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
