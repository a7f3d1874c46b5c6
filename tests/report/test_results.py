"""What the results say of the numbers themselves: the rule's own interval, the caveats of intervals."""

from pathlib import Path

import numpy as np

from raylight.config.schema import RunConfig
from raylight.evaluation.caveats import CAVEATS
from raylight.evaluation.intervals import wilson
from raylight.evaluation.predictions import Predictions
from raylight.models.preprocessing import Preprocessing
from raylight.report.caveats import caveats_of
from raylight.report.facts import RunFacts
from raylight.report.results import Selection, write_results
from raylight.report.run_page import write_report
from raylight.runs.run_dir import RunDir
from tests.finished_run import FinishedRun


def write(run: RunDir, predictions: Predictions, rule: str) -> tuple[str, ...]:
    config = RunConfig()
    config.report.plots = False
    config.decision.threshold = rule
    preprocessing = Preprocessing.from_config(config.model).to_dict()
    return write_results(config, run, predictions, preprocessing, Selection("val/loss", 0.5, 1, 2), {}).lines


def few_positives(finished: FinishedRun) -> Predictions:
    """The run's images, eight of each class in validation and test; all are recognised."""
    index = RunFacts(finished.run).index.usable()
    parts = [index.in_split(split) for split in ("val", "test")]
    labels = np.concatenate([part.targets() for part in parts])
    positive = np.where(labels == 1, 0.9, 0.1)
    return Predictions(
        [path for part in parts for path in part.column("path")],
        [split for part, split in zip(parts, ("val", "test"), strict=True) for _ in range(len(part))],
        labels,
        np.stack([1 - positive, positive], axis=1),
        ("cat", "dog"),
        "dog",
    )


def test_a_floor_on_few_validation_images_is_told_with_n_and_interval(finished: FinishedRun) -> None:
    write(finished.run, few_positives(finished), "recall>=0.95")
    decision = finished.run.read_json("metrics.json")["decision"]
    low, high = wilson(8, 8)
    assert (decision["val_value"], decision["val_low"], decision["val_high"], decision["val_n"]) == (1, low, high, 8)
    (note,) = [note for note in caveats_of(RunFacts(finished.run)) if "recall>=0.95" in note]
    assert "8 validation images that it rests on (1.000), by which the threshold was chosen; they can't promise" in note
    assert f"its 95 % interval is {low:.3f} to 1.000" in note
    page = write_report(finished.run).read_text(encoding="utf-8")
    assert f"(rule recall&gt;=0.95: recall 1.000 on validation, 95 % interval {low:.3f} to 1.000, n = 8)" in page


def test_uneven_splits_are_told_in_metrics_page_and_card(finished: FinishedRun) -> None:
    config = RunConfig()
    config.report.plots = False
    warning = "test is 20% of the images, more than data.test_fraction=0.1"
    preprocessing = Preprocessing.from_config(config.model).to_dict()
    selection = Selection("val/loss", 0.5, 1, 2)
    write_results(config, finished.run, few_positives(finished), preprocessing, selection, {}, split_warnings=[warning])
    facts = RunFacts(finished.run)
    assert facts.metrics["split_warnings"] == [warning]
    assert warning in caveats_of(facts)
    assert warning in write_report(finished.run).read_text(encoding="utf-8")


def test_a_fixed_threshold_promises_nothing(finished: FinishedRun) -> None:
    write(finished.run, few_positives(finished), "0.5")
    assert not [note for note in caveats_of(RunFacts(finished.run)) if "promise" in note]


def test_caveats_stand_in_the_lines_the_file_the_page_and_the_card(finished: FinishedRun, tmp_path: Path) -> None:
    lines = write(finished.run, few_positives(finished), "0.5")
    assert lines[0] == "Test: 16 images, checkpoint of epoch 2 of 2 (chosen by val/loss)"
    (auroc,) = [line for line in lines if line.lstrip().startswith("AUROC")]
    assert auroc.endswith("n = 16 *")
    assert f"  * AUROC: {CAVEATS['few_of_a_class']}" in lines
    assert finished.run.read_json("metrics.json")["test/auroc"]["caveat"] == "few_of_a_class"
    assert CAVEATS["few_of_a_class"] in caveats_of(RunFacts(finished.run))
    page = write_report(finished.run).read_text(encoding="utf-8")
    assert f"* AUROC, average precision: {CAVEATS['few_of_a_class']}" in page
    card = (finished.run / "model_card.md").read_text(encoding="utf-8")
    (row,) = [line for line in card.splitlines() if line.startswith("| AUROC")]
    assert row.endswith("16 \\* |")
