import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from raylight.evaluation.differences.non_inferiority import non_inferiority, refusal
from raylight.serving import int8
from raylight.serving.int8 import NoInt8Error, open_int8, open_predictor
from raylight.serving.predictor import Predictor, UnusableRunError
from tests.trained_run import move_images

pytestmark = pytest.mark.skipif(not int8.int8_supported(), reason="this processor has no int8 instructions")


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accepts a loss of half of the accuracy: 16 validation images exclude no less."""
    monkeypatch.setattr(int8, "non_inferiority", lambda *given: replace(non_inferiority(*given), margin=0.5))


def test_too_few_validation_images_are_a_refusal_that_says_how_many_would_do(
    copied_run: Path, images: Path, raylight: Callable[..., Result]
) -> None:
    picture = next(images.rglob("*.png"))
    done = raylight("predict", copied_run, picture, "--precision", "int8")
    assert done.exit_code == 1
    assert "int8 is refused: on 16 validation images" in done.output
    assert "validation images with as few disagreements would exclude it (data.val_fraction)" in done.output
    assert not (copied_run / "int8.json").exists()


def test_what_was_certified_is_kept_for_these_weights(copied_run: Path, lenient: None, tmp_path: Path) -> None:
    made = open_int8(copied_run)
    facts = json.loads((copied_run / "int8.json").read_text())
    assert facts["certificate"]["n"] == 16
    assert facts["certificate"]["confidence"] == 0.95
    assert len(facts["ranges"]) == 2  # cnn2's convolutions
    pixels = np.random.default_rng(0).integers(0, 256, (5, *made.preprocessing.decode_spec.image_shape), np.uint8)
    exact = Predictor.open(copied_run, "fp32").probabilities(pixels)
    found = made.probabilities(pixels)
    assert 0 < np.abs(found - exact).max() < 0.05
    move_images(copied_run, tmp_path / "nowhere")
    np.testing.assert_array_equal(open_predictor(copied_run, "int8").probabilities(pixels), found)

    weights = copied_run / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(UnusableRunError, match=r"no longer in .*nowhere"):
        open_int8(copied_run)


def test_the_test_compares_the_run_with_its_int8_version_on_validation_images(
    copied_run: Path, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Predictor.open(copied_run)
    val = int8.read_index(model.run).in_split("val")

    class Swapped(Predictor):
        def decide(self, probabilities: Any) -> Any:
            return 1 - Predictor.decide(self, probabilities)

    version = Swapped(**{name: getattr(model, name) for name in Predictor.__dataclass_fields__})
    right = model.decide(
        np.concatenate([b.probabilities for b in model.predict_files([val.root / p for p in val.column("path")])])
    )
    accuracy = float((right == val.targets()).mean())
    try:
        difference = int8.certified(model, version, val).difference
    except NoInt8Error as error:
        difference = float(str(error).split("differs by ")[1].split(" points")[0]) / 100
    assert difference == pytest.approx(1 - 2 * accuracy, abs=6e-4)


def test_a_damaged_file_is_named(copied_run: Path) -> None:
    (copied_run / "int8.json").write_text("{}")
    with pytest.raises(UnusableRunError, match=r"int8\.json is damaged .*delete it"):
        open_int8(copied_run)


def test_a_processor_without_the_instructions_is_told(copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "int8_supported", lambda: False)
    with pytest.raises(NoInt8Error, match="no int8 instructions"):
        open_int8(copied_run)


def test_precisions_are_named(run: Path, raylight: Callable[..., Result]) -> None:
    done = raylight("predict", run, run, "--precision", "int4")
    assert done.exit_code == 2
    assert "--precision: there is no 'int4'" in done.output
    assert open_predictor(run, "fp32").precision == "fp32"


def test_a_loss_that_more_images_can_not_excuse_offers_none() -> None:
    right = np.ones(1000, bool)
    worse = np.arange(1000) >= 30
    text = refusal(non_inferiority(right, worse), "int8", int8.WAY_OUT)
    assert "differs by -3.0 points (30 only right without int8, 0 only with it)" in text
    assert "would exclude" not in text
