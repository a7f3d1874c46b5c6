"""What a reader should bear in mind."""

from raylight.evaluation.intervals import wilson
from raylight.report.caveats import caveats_of
from raylight.report.facts import RunFacts
from raylight.report.run_page import write_report
from tests.finished_run import FinishedRun
from tests.report.test_results import few_positives, write


def test_a_floor_on_few_validation_images_is_told_with_n_and_interval(finished: FinishedRun) -> None:
    write(finished.run, few_positives(finished), "recall>=0.95")
    decision = finished.run.read_json("metrics.json")["decision"]
    low, high = wilson(8, 8)
    assert (decision["val_value"], decision["val_low"], decision["val_high"], decision["val_n"]) == (1, low, high, 8)
    (note,) = [note for note in caveats_of(RunFacts(finished.run)) if "recall>=0.95" in note]
    assert (
        "8 validation images that it is based on (1.000), by which the threshold was chosen; they don't guarantee"
        in note
    )
    assert f"its 95 % interval is {low:.3f} to 1.000" in note
    page = write_report(finished.run).read_text(encoding="utf-8")
    assert f"(rule recall&gt;=0.95: recall 1.000 on validation, 95 % interval {low:.3f} to 1.000, n = 8)" in page


def test_a_fixed_threshold_promises_nothing(finished: FinishedRun) -> None:
    write(finished.run, few_positives(finished), "0.5")
    assert not [note for note in caveats_of(RunFacts(finished.run)) if "guarantee" in note]
