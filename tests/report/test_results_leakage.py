"""Test images that training has met: the metrics stand with and without them, in the file, the lines and the report."""

from pathlib import Path

import numpy as np
import pytest

from raylight.config.schema import RunConfig
from raylight.data.splits.leakage import SharedFile
from raylight.evaluation.intervals import wilson
from raylight.evaluation.predictions import Predictions
from raylight.models.preprocessing import Preprocessing
from raylight.report.caveats import caveats_of
from raylight.report.facts import RunFacts
from raylight.report.results import Selection, write_results
from raylight.report.run_page import render_report
from raylight.runs.run_dir import RunDir
from tests.finished_run import FinishedRun


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


def test_the_report_tells_of_leakage_audit_and_shortcuts(finished: FinishedRun) -> None:
    run = finished.run
    metrics = run.read_json("metrics.json")
    metrics |= {
        name.replace("test/", "test_unshared/"): cell for name, cell in metrics.items() if name.startswith("test/")
    }
    files = [{"path": "test/cat/1.png", "partner": "train/cat/2.png", "why": "patient", "detail": "<p7>"}]
    run.write_json("metrics.json", metrics | {"leakage": {"test_files_shared": 1, "files": files}})
    finding = {"severity": "problem", "title": "T", "sentence": "The label shows.", "files": [["a", "b"]], "count": 1}
    run.write_json("audit.json", {"findings": [finding]})
    check = {
        "name": "real",
        "title": "as they are",
        "value": 0.9,
        "low": 0.8,
        "high": 0.95,
        "n": 16,
        "suspicious": True,
    }
    black = check | {"name": "centre_black", "title": "middle black", "sentence": "What lies outside gives it away."}
    heat = check | {"name": "gradcam_border", "sentence": "30 % of the evidence."}
    found = {"real": check | {"sentence": ""}, "checks": [black, heat], "chance": 0.5, "note": ""}
    run.write_json("shortcuts.json", found)

    page = render_report(RunFacts(run))

    assert "couldn&#39;t be made" not in page
    assert "couldn't be made" not in page
    for words in ("Without what training has met", "patient &lt;p7&gt;", "The label shows.", "What it goes by",
                  "What lies outside gives it away.", "30 % of the evidence."):  # fmt: skip
        assert words in page
    assert any("that training has met; without them accuracy is" in note for note in caveats_of(RunFacts(run)))
