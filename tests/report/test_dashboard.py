"""What a dashboard is told of a run, and what becomes of the run when it can't be told. What W&B makes of it:
``tests/commands/test_wandb.py``."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import precision_recall_curve, roc_curve

from raylight.config.schema import LoggerConfig
from raylight.report.dashboard import COLUMNS, cost_summary, log_curves, sample_rows, show_result
from raylight.report.facts import RunFacts
from raylight.report.images import Gallery
from raylight.report.results import Selection
from raylight.runs.tracking import Tracker, tracking


def test_rows_hold_pixels_and_heat_of_every_kind(finished: Any) -> None:
    rows = [
        dict(zip(COLUMNS, row, strict=True))
        for row in sample_rows(Gallery(RunFacts(finished.run), finished.network, 3))
    ]
    assert {row["kind"] for row in rows} == {"confident error", "least certain", "correct"}
    assert all(row["picture"].shape == row["grad_cam"].shape == (256, 256, 3) for row in rows)
    assert all((row["label"] == row["predicted"]) == row["right"] for row in rows)
    without = [dict(zip(COLUMNS, row, strict=True)) for row in sample_rows(Gallery(RunFacts(finished.run), None, 3))]
    assert [row["path"] for row in without] == [row["path"] for row in rows]
    assert all(row["grad_cam"] is None for row in without)


def test_costs_are_flat_numbers(finished: Any) -> None:
    cost = cost_summary(RunFacts(finished.run))
    assert (cost["cost/seconds_training"], cost["cost/peak_memory_gb"]) == (75.0, 1.25)
    assert cost["cost/images_per_second"] == pytest.approx(16 * 3 / 1.5)  # 16 usable training images, 3 epochs of 0.5 s
    assert cost["cost/parameters"] == sum(parameter.numel() for parameter in finished.network.parameters())


def test_a_failing_disk_loses_the_dashboard_not_the_run(finished: Any, caplog: pytest.LogCaptureFixture) -> None:
    """W&B writes tables into a temporary folder first; here that has gone."""
    from wandb.sdk.data_types._private import MEDIA_TMP

    results: Any = SimpleNamespace(summary={}, plots={})
    config = RunFacts(finished.run).config
    selection = Selection("val/loss", 0.5, 1, 2)
    with (
        caplog.at_level(logging.ERROR, "raylight"),
        tracking(config.logger, finished.run.path, {}, []) as tracker,
    ):
        shutil.rmtree(MEDIA_TMP.name)
        try:
            show_result(
                tracker, Gallery(RunFacts(finished.run), finished.network), results, selection, Path("best.ckpt")
            )
        finally:
            Path(MEDIA_TMP.name).mkdir()
    assert "W&B didn't receive the table of predictions ([Errno 2] No such file or directory" in caplog.text
    assert tracker.exit_code == 0


def test_a_class_that_does_not_occur_has_no_roc_and_warns_nobody(recwarn: pytest.WarningsRecorder) -> None:
    told: dict[str, Any] = {}
    recorder: Any = SimpleNamespace(log=told.update)
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6]])
    log_curves(Tracker(recorder), np.array([0, 0]), np.array([0, 1]), probabilities, ("cat", "dog"))
    assert set(told) == {"test/confusion_matrix"}
    log_curves(Tracker(recorder), np.array([0, 1]), np.array([0, 1]), probabilities, ("cat", "dog"))
    assert set(told) == {"test/confusion_matrix", "test/roc", "test/precision_recall"}
    assert not [warning for warning in recwarn if "Undefined" in str(warning.category)]


def logged_table(run: Path, name: str) -> dict[str, Any]:
    (file,) = run.glob(f"wandb/offline-run-*/files/media/table/test/{name}_table*.json")
    table: dict[str, Any] = json.loads(file.read_text())
    return table


def test_curves_are_scikit_learns_and_no_longer_than_wandb_draws(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    names, labels = ("cat", "dog", "owl"), rng.integers(0, 3, 20_000)
    probabilities = rng.dirichlet([1, 1, 1], 20_000)
    few = slice(0, 300)
    for folder, chosen in ((tmp_path / "few", few), (tmp_path / "many", slice(None))):
        folder.mkdir()
        with tracking(LoggerConfig(), folder, {}, []) as tracker:
            log_curves(tracker, labels[chosen], labels[chosen], probabilities[chosen], names)
    roc, precision_recall = (logged_table(tmp_path / "few", name) for name in ("roc", "precision_recall"))
    for k, name in enumerate(names):
        expected = roc_curve(labels[few] == k, probabilities[few, k], drop_intermediate=False)[:2]
        assert [row[1:] for row in roc["data"] if row[0] == name] == np.stack(expected, 1).round(3).tolist()
        precision, recall, _ = precision_recall_curve(labels[few] == k, probabilities[few, k])
        points = np.stack([recall, precision], 1).round(3)[::-1].tolist()
        rows = [row[1:] for row in precision_recall["data"] if row[0] == name]
        assert rows[1 : len(points)] == points[1:]  # scikit-learn gives the first point a precision of 1
    many = logged_table(tmp_path / "many", "roc")["data"]
    assert 9_000 < len(many) <= 10_000
    assert many[0] == ["cat", 0, 0]
    assert many[-1] == ["owl", 1, 1]


def test_a_confusion_matrix_of_many_classes_is_whole(tmp_path: Path) -> None:
    """W&B keeps 200,000 rows of a table; 500 classes have 250,000 pairs."""
    rng = np.random.default_rng(0)
    labels, names = np.r_[rng.integers(0, 500, 2000), 499], [f"c{i}" for i in range(500)]
    predicted = np.where(rng.random(2001) < 0.5, labels, rng.integers(0, 500, 2001))
    with tracking(LoggerConfig(), tmp_path, {}, []) as tracker:
        log_curves(tracker, labels, predicted, np.full((2001, 500), 1 / 500), names)
    table = logged_table(tmp_path, "confusion_matrix")
    counts = np.zeros((500, 500), int)
    np.add.at(counts, (labels, predicted), 1)
    assert {(true, given): n for true, given, n in table["data"]} == {
        (names[i], names[j]): counts[i, j] for i, j in zip(*counts.nonzero(), strict=True)
    }
