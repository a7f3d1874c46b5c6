"""What the results say of the numbers themselves: the rule's own interval, the caveats of intervals."""

from pathlib import Path

import numpy as np
import pytest

from raylight.config.schema import RunConfig
from raylight.data.splits.leakage import SharedFile
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


def judged(run: RunDir, shared: tuple[SharedFile, ...]) -> tuple[dict, tuple[str, ...]]:
    """Twenty test images, of which the first five, and 14 of the others, are right."""
    labels = np.arange(20) % 2
    right = np.array([True] * 19 + [False])
    positive = np.where(labels == right, 0.9, 0.1)
    config = RunConfig()
    config.report.plots = False
    results = write_results(
        config,
        run,
        Predictions(
            [f"{i}.png" for i in range(20)],
            ["test"] * 20,
            labels,
            np.stack([1 - positive, positive], 1),
            ("a", "b"),
            "b",
        ),
        Preprocessing.from_config(config.model).to_dict(),
        Selection("val/loss", 0.5, 1, 2),
        {},
        shared,
    )
    return run.read_json("metrics.json"), results.lines


def test_metrics_are_also_given_without_what_training_has_met(tmp_path: Path) -> None:
    shared = tuple(SharedFile(f"{i}.png", f"train/{i}.png", "patient", f"p{i}") for i in range(5))
    metrics, lines = judged(RunDir(tmp_path), shared)
    assert metrics["test/accuracy"]["n"] == 20
    low, high = wilson(14, 15)
    assert metrics["test_unshared/accuracy"] == {
        "value": pytest.approx(14 / 15), "low": pytest.approx(low), "high": pytest.approx(high), "n": 15
    }  # fmt: skip
    assert metrics["leakage"]["test_files_shared"] == 5
    assert metrics["leakage"]["files"][0] == {
        "path": "0.png",
        "partner": "train/0.png",
        "why": "patient",
        "detail": "p0",
    }
    assert any("5 test images show a patient or a picture that training has met" in line for line in lines)
    assert any("accuracy without them 0.933" in line for line in lines)


def test_a_split_that_shares_nothing_says_nothing_of_it(tmp_path: Path) -> None:
    metrics, lines = judged(RunDir(tmp_path), ())
    assert not [name for name in metrics if name.startswith("test_unshared")]
    assert metrics["leakage"] == {"test_files_shared": 0, "files": []}
    assert not any("training has met" in line for line in lines)
