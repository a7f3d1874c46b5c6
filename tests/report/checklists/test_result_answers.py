"""Answers on the result repeat the run's numbers."""

import csv

import pytest

from raylight.report.checklists.result_answers import RESULT_ANSWERS
from raylight.report.facts import RunFacts
from raylight.report.run_page import write_report
from raylight.runs.run_dir import RunDir
from tests.finished_run import FinishedRun
from tests.report.checklists.test_data_answers import change


def says(run: RunDir, name: str) -> str:
    answer = RESULT_ANSWERS[name](RunFacts(run))
    assert answer is not None
    return answer.text


def rows_of_predictions(run: RunDir) -> list[dict[str, str]]:
    with (run / "predictions.csv").open(newline="", encoding="utf-8") as file:
        return [row for row in csv.DictReader(file) if row["split"] == "test"]


def test_the_table_counts_what_predictions_hold(finished: FinishedRun) -> None:
    rows = rows_of_predictions(finished.run)
    cells = {
        (a, b): sum(row["label"] == a and row["predicted"] == b for row in rows)
        for a in ("cat", "dog")
        for b in ("cat", "dog")
    }
    assert says(finished.run, "confusion") == (
        f"Of 8 cat {cells['cat', 'cat']} called cat, {cells['cat', 'dog']} called dog; "
        f"of 8 dog {cells['dog', 'cat']} called cat, {cells['dog', 'dog']} called dog."
    )
    wrong = cells["cat", "dog"] + cells["dog", "cat"]
    assert says(finished.run, "failures").startswith(f"{wrong} of 16 test images are wrong;")


def test_metrics_are_those_of_the_file(finished: FinishedRun) -> None:
    cell = finished.run.read_json("metrics.json")["test/recall"]
    shown = f"recall {cell['value']:.3f} ({cell['low']:.3f} to {cell['high']:.3f}), n = 8"
    assert shown in says(finished.run, "performance")
    accuracy = finished.run.read_json("metrics.json")["test/accuracy"]["value"]
    assert f"accuracy {accuracy:.3f}" in says(finished.run, "summary")
    assert "16 images and chosen on 16 others. On 16 test images" in says(finished.run, "summary")


@pytest.mark.parametrize("name", ["robustness", "subgroups", "explanations"])
def test_what_was_not_looked_at_is_not_claimed(finished: FinishedRun, name: str) -> None:
    (finished.run / "report.html").unlink(missing_ok=True)
    assert RESULT_ANSWERS[name](RunFacts(finished.run)) is None


def test_what_was_looked_at_is_told(finished: FinishedRun) -> None:
    checks = [{"name": "coarse", "sentence": "At 8 by 8 pixels, it needs detail."}]
    finished.run.write_json("shortcuts.json", {"checks": checks})
    assert says(finished.run, "robustness") == "At 8 by 8 pixels, it needs detail."
    header = "column,subgroup,n,positives,accuracy,accuracy_low,accuracy_high\n"
    finished.run.write_text("subgroups.csv", f"{header}sex,F,9,4,0.88888,0.565,0.9801\nsex,M,7,4,,,\n")
    assert says(finished.run, "subgroups") == "Accuracy by subgroup: sex F 0.889 (0.565 to 0.980), n = 9."
    write_report(finished.run, finished.network)
    assert says(finished.run, "explanations").startswith("Grad-CAM on test images")
    assert RESULT_ANSWERS["explanations"](RunFacts(change(finished.run, report__gradcam=False))) is None


def test_looks_are_counted(finished: FinishedRun) -> None:
    finished.run.write_text("looks.csv", "at,by\n1,train 3 epochs\n2,evaluate\n")
    assert says(finished.run, "internal").endswith("looked at 2 times.")
