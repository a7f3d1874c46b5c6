"""What an evaluation says on the terminal and in files is what it found."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from raylight.evaluation.clinical.prediction_powered import powered_accuracy
from raylight.evaluation.predictions import read_csv
from raylight.serving.evaluate import evaluated
from raylight.serving.evaluation import print_evaluation, write_evaluation


def test_numbers_notes_and_files_are_those_of_the_value(
    copied_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluated(copied_run, None, None)
    powered = powered_accuracy(np.arange(20) < 18, np.linspace(0.6, 1, 20), np.linspace(0.5, 1, 90))
    found = dataclasses.replace(found, powered=powered, notes=(*found.notes, "A note."))
    print_evaluation(found)
    said = capsys.readouterr().out
    accuracy = found.estimates["accuracy"]
    (row,) = [line.split() for line in said.splitlines() if line.startswith("accuracy ")]
    assert row[:5] == ["accuracy", f"{accuracy.value:.3f}", f"{accuracy.low:.3f}", "to", f"{accuracy.high:.3f}"]
    assert "run's own test" not in said  # its own images have no shift
    assert said.endswith("A note.\n")

    write_evaluation(found, tmp_path / "new" / "out")
    written = json.loads((tmp_path / "new" / "out" / "metrics.json").read_text())
    assert written["test/accuracy"]["value"] == accuracy.value
    assert written["prediction_powered"]["n_unlabelled"] == 90
    assert written["provenance"]["test_files"] == len(found.predictions)
    table = read_csv(tmp_path / "new" / "out" / "predictions.csv", found.predictions.positive_class)
    np.testing.assert_array_equal(table.probabilities, found.predictions.probabilities)
    assert not (tmp_path / "new" / "out" / "subgroups.csv").exists()
