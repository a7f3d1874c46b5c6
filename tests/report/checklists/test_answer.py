"""Words that several answers share."""

from raylight.report.checklists.answer import by_class, listed
from raylight.report.facts import RunFacts
from tests.finished_run import FinishedRun


def test_lists_are_written_as_in_a_sentence() -> None:
    assert listed(["roc"]) == "roc"
    assert listed(["roc", "loss"]) == "roc and loss"
    assert listed(["roc", "loss", "calibration"]) == "roc, loss and calibration"


def test_images_are_counted_by_class(finished: FinishedRun) -> None:
    assert by_class(RunFacts(finished.run), "train") == "8 cat, 8 dog"


def test_of_many_classes_the_range_is_given(run_of) -> None:
    run, _ = run_of(tuple(f"c{k:02d}" for k in range(13)))
    assert by_class(RunFacts(run), "test") == "13 classes of 2 to 2 images"
