"""Images that are wider than high, through whole commands: trained on, measured, predicted, exported, served."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image, ImageOps

from raylight.config.schema import ModelConfig
from raylight.models.build import build_network
from raylight.serving.explanation import ServedRun
from tests.forked import last_line

HEIGHT, WIDTH = 24, 40
QUICK = ("trainer.threads=1", "trainer.batch_size=8", "decode=threads", "logger=none", "report.plots=false")


@pytest.fixture(scope="module")
def wide(images: Path, train: Callable[..., object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose training images are cropped at random, too."""
    size = (f"model.image_size=[{HEIGHT},{WIDTH}]", "model.resize=pad", "augment=crop_flip")
    folder = tmp_path_factory.mktemp("wide")
    done = train(f"data.root={images}", "model=cnn2", *size, *QUICK, "trainer.max_epochs=2", cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / last_line(done)


def shown(path: Path) -> np.ndarray:
    """A picture as the run's network sees it, by Pillow alone: within 40 x 24 pixels, on black."""
    small = ImageOps.contain(Image.open(path).convert("RGB"), (WIDTH, HEIGHT), Image.Resampling.BILINEAR)
    padded = Image.new("RGB", (WIDTH, HEIGHT))
    padded.paste(small, ((WIDTH - small.width) // 2, (HEIGHT - small.height) // 2))
    return np.asarray(padded)


def test_its_probabilities_are_the_networks_on_pictures_that_pillow_padded(
    wide: Path, images: Path, raylight: Callable[..., object]
) -> None:
    assert json.loads((wide / "preprocessing.json").read_text())["size"] == [HEIGHT, WIDTH]
    model = ModelConfig(
        name="cnn2",
        channels=[32, 64],
        padding="valid",
        batch_norm=True,
        dense=[128],
        image_size=[HEIGHT, WIDTH],
        weights=str(wide),
    )
    network = build_network(model, 2).eval()
    pngs = sorted((images / "left").glob("*.png"))
    said = raylight("predict", wide, *pngs)
    assert said.exit_code == 0, said.output
    rows = pd.read_csv(io.StringIO(said.stdout))
    pixels = torch.from_numpy(np.stack([shown(path) for path in pngs])).permute(0, 3, 1, 2) / 255
    metrics = json.loads((wide / "preprocessing.json").read_text())
    with torch.inference_mode():
        expected = torch.softmax(network(pixels) / metrics["temperature"], dim=1).numpy()
    np.testing.assert_allclose(rows[["p_left", "p_right"]].to_numpy(), expected, atol=2e-2)


def test_it_is_measured_again_exported_and_served_at_its_size(
    wide: Path, images: Path, raylight: Callable[..., object], tmp_path: Path
) -> None:
    again = raylight("evaluate", wide)
    assert "The same numbers as in the run's metrics.json." in again.output
    onnxruntime = pytest.importorskip("onnxruntime", reason="writing an ONNX file needs the extra export")
    exported = raylight("export", wide, "--out", tmp_path / "model.onnx")
    assert exported.exit_code == 0, exported.output
    (given,) = onnxruntime.InferenceSession(str(tmp_path / "model.onnx")).get_inputs()
    assert given.shape == ["batch", "height", "width", 3]
    prepared = raylight("export", wide, "--prepared", "--out", tmp_path / "prepared.onnx")
    assert prepared.exit_code == 0, prepared.output
    (given,) = onnxruntime.InferenceSession(str(tmp_path / "prepared.onnx")).get_inputs()
    assert given.shape == ["batch", HEIGHT, WIDTH, 3]
    content = next((images / "left").glob("*.png")).read_bytes()
    assert ServedRun.open(wide).explain(content).heat is not None
    report, card = (wide / "report.html").read_text(), (wide / "model_card.md").read_text()
    assert f"The network sees {WIDTH} by {HEIGHT}." in report
    assert f"{HEIGHT} x {WIDTH} pixels (pad)" in card


def test_frozen_features_are_computed_at_the_size_of_the_run_whose_weights_are_taken(
    wide: Path, images: Path, train: Callable[..., object], tmp_path: Path
) -> None:
    settings = (f"data.root={images}", "model=cnn2", "model.image_size=null", f"model.weights={wide}", "finetune=probe")
    done = train(*settings, *QUICK, "report.enabled=false", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / last_line(done) / "preprocessing.json").read_text())
    assert (told["size"], told["resize"]) == ([HEIGHT, WIDTH], "pad")
