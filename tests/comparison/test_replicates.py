"""Runs with a result, and folds joined to one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from raylight.comparison.replicates import IncomparableError
from raylight.comparison.study import study_of
from raylight.comparison.study_files import write_study
from raylight.evaluation.intervals import wilson
from raylight.evaluation.predictions import read_csv, write_csv
from raylight.runs.run_dir import RunDir
from tests.comparison.run_folders import folds


def test_a_run_without_a_result_is_refused_by_name_but_left_out_of_a_sweep(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    failed = RunDir.claim(tmp_path / "failed")
    failed.write_text("config.yaml", "seed: 1\n")
    failed.write_json("status.json", {"state": "failed", "host": "h", "stage": "training", "reason": "x"})
    with pytest.raises(IncomparableError, match="has no result to compare: it is failed"):
        study_of([two[0], failed.path])
    assert len(study_of([tmp_path]).recipes) == 2
    with pytest.raises(IncomparableError, match="needs two runs with a result; 1 found"):
        study_of([two[0]])
    with pytest.raises(IncomparableError, match="given twice"):
        study_of([two[0], two[0]])
    with pytest.raises(IncomparableError, match="neither a run folder nor"):
        study_of([two[0], tmp_path / "here"])


def test_the_folds_of_one_configuration_are_its_cross_validated_result(tmp_path: Path) -> None:
    study = study_of(folds(tmp_path, "small", {3, 14}))
    (whole,) = study.replicates
    accuracy = whole.estimates["accuracy"]
    assert (accuracy.value, accuracy.n) == (pytest.approx(28 / 30), 30)
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson(28, 30))
    assert not study.pairs
    page = write_study(study, tmp_path / "out")["comparison.html"].read_text()
    assert "The folds joined" in page
    assert "<h2>Pairs</h2>" not in page

    # What the chosen epoch says of the images that chose it has no part.
    flattering = folds(tmp_path / "flattering", "small", {3, 14})
    for path in flattering:
        said = read_csv(path / "predictions.csv", "dog")
        pairs = np.stack([said.labels == 0, said.labels == 1], axis=1).astype(float)
        write_csv(replace(said, probabilities=pairs), path / "predictions.csv")
    assert study_of(flattering).replicates[0].estimates["accuracy"].value == pytest.approx(28 / 30)

    some = study_of(folds(tmp_path / "some", "small", set(), (0, 2)))
    assert any("Fold 1 of 3 is missing" in note for note in some.notes)
