"""A sweep's table: what is told beside it."""

from pathlib import Path

import pytest

from raylight.compare.sweep.table import sweep_table
from raylight.errors import RunError
from tests.compare.jobs import job


def test_different_test_sets_are_told_with_their_reason(tmp_path: Path) -> None:
    for number, tested in enumerate("ab"):
        job(tmp_path / "seeds", number, f"seed={number}", tested=tested)
        job(tmp_path / "roots", number, f"data.root={number}", tested=tested)
    (of_seeds,) = (note for note in sweep_table(tmp_path / "seeds").notes if "tested on" in note)
    assert "2 different sets of images, because their splits have different seeds" in of_seeds
    (of_roots,) = (note for note in sweep_table(tmp_path / "roots").notes if "tested on" in note)
    assert "(data.root differs)" in of_roots
    assert "seed" not in of_roots


def test_an_empty_folder_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder in it"):
        sweep_table(tmp_path)
