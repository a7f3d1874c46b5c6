from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylight.evaluation.differences.non_inferiority import non_inferiority, refusal
from raylight.serving.predictor import Predictor, read_index
from raylight.serving.versions.certificate import RefusedVersionError, certified
from raylight.serving.versions.int8 import WAY_OUT


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
