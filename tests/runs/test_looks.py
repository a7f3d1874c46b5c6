"""Looks at a run's test images: each one noted with its command, in a file of their own."""

from pathlib import Path

from raylight.runs.looks import look_notice, looks, record_look, record_test
from raylight.runs.run_dir import RunDir


def test_looks_are_counted_with_who_looked(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    record_test(run, 5)
    assert looks(run) == 1
    record_test(run, 5)  # resumed after it had been tested: the same test
    assert looks(run) == 1
    assert [record_look(run, "evaluate"), record_look(run, "audit")] == [2, 3]
    rows = (tmp_path / "looks.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["by", "train 5 epochs", "evaluate", "audit"]
    assert look_notice(run, "audit") == (
        "This was look 4 at the run's test images; if anything is chosen by it, the result is too optimistic."
    )
    record_test(run, 10)  # given more epochs
    assert looks(run) == 5


def test_a_look_that_cannot_be_noted_is_said(tmp_path: Path) -> None:
    (tmp_path / "looks.csv").mkdir()  # nothing can be appended to a folder
    assert look_notice(RunDir(tmp_path), "audit").startswith("This look at the test images can't be recorded in")
