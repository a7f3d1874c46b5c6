from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from raylight.cpu.quantising import int8_supported
from raylight.evaluation.differences.non_inferiority import non_inferiority, refusal
from raylight.serving.predictor import Predictor, read_index
from raylight.serving.versions.certificate import RefusedVersionError, certified
from raylight.serving.versions.int8 import WAY_OUT


@pytest.mark.parametrize(
    ("option", "value", "called"),
    [
        pytest.param(
            *("--precision", "int8", "int8"),
            marks=pytest.mark.skipif(not int8_supported(), reason="this processor has no int8 instructions"),
        ),
        ("--engine", "openvino", "OpenVINO"),
    ],
)
def test_too_few_validation_images_are_a_refusal_that_says_how_many_would_do(
    option: str, value: str, called: str, copied_run: Path, images: Path, raylight: Callable[..., Result]
) -> None:
    picture = next(images.rglob("*.png"))
    done = raylight("predict", copied_run, picture, option, value)
    assert done.exit_code == 1
    assert f"{called} is refused: on 16 validation images" in done.output
    assert "validation images with as few disagreements would exclude it (data.val_fraction)" in done.output
    assert f", or leave out {option} {value}" in done.output
    assert not (copied_run / f"{value}.json").exists()


def test_the_test_compares_the_run_with_its_int8_version_on_validation_images(
    copied_run: Path, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Predictor.open(copied_run)
    val = read_index(model.run).in_split("val")

    class Swapped(Predictor):
        def decide(self, probabilities: Any) -> Any:
            return 1 - Predictor.decide(self, probabilities)

    version = Swapped(**{name: getattr(model, name) for name in Predictor.__dataclass_fields__})
    right = model.decide(
        np.concatenate([b.probabilities for b in model.predict_files([val.root / p for p in val.column("path")])])
    )
    accuracy = float((right == val.targets()).mean())
    try:
        difference = certified(model, version, val, "int8", WAY_OUT).difference
    except RefusedVersionError as error:
        difference = float(str(error).split("differs by ")[1].split(" points")[0]) / 100
    assert difference == pytest.approx(1 - 2 * accuracy, abs=6e-4)


def test_a_loss_that_more_images_can_not_excuse_offers_none() -> None:
    right = np.ones(1000, bool)
    worse = np.arange(1000) >= 30
    text = refusal(non_inferiority(right, worse), "int8", WAY_OUT)
    assert "differs by -3.0 points (30 only right without int8, 0 only with it)" in text
    assert "would exclude" not in text
