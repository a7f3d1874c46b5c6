"""Looks at a run's test images: each one noted with its command, in a file of their own."""

from pathlib import Path

from raylight.runs.looks import count_look, counted, looks, note_test
from raylight.runs.run_dir import RunDir


def test_looks_are_counted_with_who_looked(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    note_test(run, 5)
    assert looks(run) == 1
    note_test(run, 5)  # resumed after it had been tested: the same test
    assert looks(run) == 1
    assert [count_look(run, "evaluate"), count_look(run, "audit")] == [2, 3]
    rows = (tmp_path / "looks.csv").read_text().splitlines()
    assert [row.split(",")[1] for row in rows] == ["by", "train 5 epochs", "evaluate", "audit"]
    assert counted(run, "audit") == (
        "This was look 4 at the run's test images; choosing anything by it would flatter the result."
    )
    note_test(run, 10)  # given more epochs
    assert looks(run) == 5


def test_a_look_that_cannot_be_noted_is_said(tmp_path: Path) -> None:
    (tmp_path / "looks.csv").mkdir()  # nothing can be appended to a folder
    assert counted(RunDir(tmp_path), "audit").startswith("That the test images were looked at again can't be noted in")
