"""A sweep's table: what is told beside it."""

from pathlib import Path

import pytest

from raylight.comparison.sweep.files import write_sweep
from raylight.comparison.sweep.table import sweep_table
from raylight.errors import RunError
from tests.comparison.jobs import job


def test_different_test_sets_are_told_with_their_reason(tmp_path: Path) -> None:
    for number, tested in enumerate("ab"):
        job(tmp_path / "seeds", number, f"seed={number}", tested=tested)
        job(tmp_path / "roots", number, f"data.root={number}", tested=tested)
    (of_seeds,) = (note for note in sweep_table(tmp_path / "seeds").notes if "tested on" in note)
    assert "2 different sets of images, because their splits have different seeds" in of_seeds
    (of_roots,) = (note for note in sweep_table(tmp_path / "roots").notes if "tested on" in note)
    assert "(data.root differs)" in of_roots
    assert "seed" not in of_roots


def test_caveats_and_uneven_splits_of_jobs_are_told(tmp_path: Path) -> None:
    for number in range(2):
        run = job(tmp_path, number, f"model={number}")
        metrics = run.read_json("metrics.json")
        metrics["test/auroc"]["caveat"] = metrics["test/average_precision"]["caveat"] = "few_of_a_class"
        run.write_json("metrics.json", {**metrics, "split_warnings": ["val is 20% of the images"]})
    table = sweep_table(tmp_path)
    assert [note for note in table.notes if note.startswith("AUROC, average precision: Fewer than 10 test images")]
    assert table.notes.count("val is 20% of the images") == 1
    page = write_sweep(table)["html"].read_text()
    assert "Fewer than 10 test images of a class" in page
    assert "val is 20% of the images" in page


def test_an_empty_folder_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="contains no run folder"):
        sweep_table(tmp_path)
