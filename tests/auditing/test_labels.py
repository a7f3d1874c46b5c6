"""Flipped labels are found: by a plain model where classes differ at a glance, by the folds of a cross-validation."""

import csv
from pathlib import Path

import pytest

from raylight.auditing.labels import labels_of_data, labels_of_sweep, report_labels
from raylight.comparison.replicates import IncomparableError
from raylight.errors import DataError
from tests.auditing.test_dataset import index_of, pictures
from tests.comparison.run_folders import folds, run_folder


def test_flipped_labels_are_found_with_their_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = pictures(tmp_path / "d", brighter=90)
    flipped = [("cat", "dog", 3), ("cat", "dog", 17), ("dog", "cat", 5)]
    for source, target, number in flipped:
        (root / source / f"{number}.png").rename(root / target / f"flipped{number}.png")

    found = labels_of_data(index_of(root, tmp_path / "c"), "planted")

    assert {one.path for one in found.suspects} == {f"{target}/flipped{number}.png" for _, target, number in flipped}
    assert {(one.label, one.likely) for one in found.suspects} == {("dog", "cat"), ("cat", "dog")}
    assert report_labels(found, tmp_path / "out") == 1
    assert "3 of 60 labels are suspect" in capsys.readouterr().out
    with (tmp_path / "out/label_errors.csv").open() as file:
        assert [row["path"] for row in csv.DictReader(file)] == [one.path for one in found.suspects]
    assert (tmp_path / "out/label_errors.html").read_text().count("data:image/jpeg") == 3


def test_right_labels_are_left_in_peace(tmp_path: Path) -> None:
    found = labels_of_data(index_of(pictures(tmp_path / "d", brighter=90), tmp_path / "c"), "clean")
    assert found.suspects == ()
    assert report_labels(found, None) == 0


def test_the_folds_of_a_cross_validation_judge(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    folds(sweep, "small", {25, 28})  # the networks of these folds contradict two labels
    found = labels_of_sweep([sweep])
    assert [one.path for one in found.suspects] == ["cat/028.png", "dog/025.png"]
    assert found.n == 30


def test_what_cannot_judge_is_refused(tmp_path: Path) -> None:
    ordinary = [run_folder(tmp_path / f"{i}", tmp_path / "data", {i}, overrides=(f"seed={i}",)) for i in (1, 2)]
    with pytest.raises(IncomparableError, match=r"data.folds=5 data.fold=0,1,2,3,4"):
        labels_of_sweep(ordinary)
    index = index_of(pictures(tmp_path / "e", each=12), tmp_path / "c")
    patients = ["p1" if path.startswith("dog") else None for path in index.column("path")]
    one = r"e: the 12 usable images of the class 'dog' are all in one fold, since images of one patient"
    with pytest.raises(DataError, match=one):
        labels_of_data(index.with_column("group", patients), "linked")
    patients[-1] = "p2"
    assert labels_of_data(index.with_column("group", patients), "linked").n == 24
    with pytest.raises(DataError, match="5 to 5 usable images per class"):
        labels_of_data(index_of(pictures(tmp_path / "d", each=5), tmp_path / "c"), "few")
