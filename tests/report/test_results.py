"""What the results say of the numbers themselves: the rule's own interval, the caveats of intervals."""

import csv
import hashlib
import logging
from pathlib import Path

import numpy as np
import pytest

from raylight.config.schema import RunConfig
from raylight.data.splits.leakage import SharedFile
from raylight.evaluation.calibration import calibrated, choose_threshold, fit_temperature
from raylight.evaluation.caveats import CAVEATS
from raylight.evaluation.intervals import wilson
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import Predictions, read_csv
from raylight.models.preprocessing import Preprocessing
from raylight.report import results as module
from raylight.report.caveats import caveats_of
from raylight.report.facts import RunFacts
from raylight.report.results import Circumstances, Results, Selection, read_history, write_results
from raylight.report.run_page import write_report
from raylight.runs.run_dir import RunDir
from tests.finished_run import FinishedRun


def write(run: RunDir, predictions: Predictions, rule: str) -> tuple[str, ...]:
    config = RunConfig()
    config.report.plots = False
    config.decision.threshold = rule
    preprocessing = Preprocessing.from_config(config.model).to_dict()
    return write_results(config, run, predictions, preprocessing, Selection("val/loss", 0.5, 1, 2)).lines


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
    circumstances = Circumstances(split_warnings=[warning])
    write_results(config, finished.run, few_positives(finished), preprocessing, selection, circumstances)
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
        Circumstances(shared=shared),
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
    assert any(
        "5 test images show a patient or a picture that is also in train or validation" in line for line in lines
    )
    assert any("accuracy without them 0.933" in line for line in lines)


def test_a_split_that_shares_nothing_says_nothing_of_it(tmp_path: Path) -> None:
    metrics, lines = judged(RunDir(tmp_path), ())
    assert not [name for name in metrics if name.startswith("test_unshared")]
    assert metrics["leakage"] == {"test_files_shared": 0, "files": []}
    assert not any("also in train or validation" in line for line in lines)


def results(run: RunDir, predictions: Predictions, config: RunConfig, selection: Selection) -> Results:
    config.report.plots = False
    preprocessing = Preprocessing.from_config(config.model).to_dict()
    return write_results(config, run, predictions, preprocessing, selection, Circumstances({"peak_memory_gb": 1.5}))


def boasting(n: int, splits: tuple[str, ...] = ("val", "test")) -> Predictions:
    """Probabilities that claim too much, the same number of images in each split."""
    rng = np.random.default_rng(4)
    labels = np.arange(n * len(splits)) % 2
    score = 3 * (rng.normal(size=len(labels)) + 0.8 * (labels - 0.5))
    positive = 1 / (1 + np.exp(-score))
    names = [f"{i:03}.png" for i in range(len(labels))]
    return Predictions(
        names, list(np.repeat(splits, n)), labels, np.stack([1 - positive, positive], 1), ("cat", "dog"), "dog"
    )


def test_temperature_and_threshold_are_validations_and_test_is_judged_with_them(tmp_path: Path) -> None:
    config, run, predictions = RunConfig(), RunDir(tmp_path), boasting(120)
    config.decision.threshold, config.decision.calibrate = "cost", True
    config.decision.cost_miss, config.decision.cost_false_alarm = 4.0, 0.5
    found = results(run, predictions, config, Selection("val/auroc", 0.75, 3, 9))
    val, test = predictions.subset("val"), predictions.subset("test")
    temperature = fit_temperature(val)
    decision = choose_threshold(calibrated(val, temperature), "cost", 4.0, 0.5)
    assert temperature > 1.2
    assert (found.temperature, found.decision) == (temperature, decision)
    expected = evaluate(calibrated(test, temperature), decision.threshold)
    assert found.test == expected
    assert found.val == evaluate(calibrated(val, temperature), decision.threshold)
    written, before = run.read_json("metrics.json"), evaluate(test, decision.threshold)
    for prefix, estimates in (("test", expected), ("val", found.val), ("test/uncalibrated", before)):
        for name in ("ece", "brier"):
            cell = written[f"{prefix}/{name}" if prefix in ("test", "val") else f"{prefix}_{name}"]
            assert (cell["value"], cell["low"], cell["high"]) == (
                estimates[name].value, estimates[name].low, estimates[name].high
            )  # fmt: skip
    assert not [name for name in written if name.startswith("test/uncalibrated") and name[18:] not in ("ece", "brier")]
    assert written["decision"] == {
        "rule": "cost", "chosen_on": "val", "val_metric": "cost", "val_value": decision.value, "val_low": None,
        "val_high": None, "val_n": 120, "met": True,
    }  # fmt: skip
    names = "\n".join(sorted(test.paths)).encode()
    assert written["provenance"] == {
        "test_files_sha256": hashlib.sha256(names).hexdigest(), "test_files": 120, "selected_by": "val/auroc",
        "selected_value": 0.75, "selected_epoch": 3, "epochs_trained": 9,
        "threshold_and_temperature_from": "val", "stopped_by": None,
    }  # fmt: skip
    assert written["cost"] == {"peak_memory_gb": 1.5}
    told = run.read_json("preprocessing.json")
    assert (told["temperature"], told["threshold"]) == (temperature, decision.threshold)
    assert (told["class_names"], told["positive_class"], told["head"]) == (["cat", "dog"], "dog", config.model.head)
    table = read_csv(run / "predictions.csv", "dog")
    assert np.array_equal(table.probabilities, calibrated(predictions, temperature).probabilities)
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all((row["predicted"] == "dog") == (float(row["p_dog"]) > decision.threshold) for row in rows)
    assert found.summary["best_epoch"] == 3
    assert found.summary["best/val/auroc"] == 0.75
    for name, estimate in expected.items():
        summed = tuple(found.summary[f"test/{name}{end}"] for end in ("", "_low", "_high"))
        assert summed == (estimate.value, estimate.low, estimate.high)
    f1 = expected["f1"]
    assert found.lines[0] == "Test: 120 images, checkpoint of epoch 4 of 9 (chosen by val/auroc)"
    assert f"  F1                   {f1.value:.3f}   95 % interval {f1.low:.3f} to {f1.high:.3f}   n = {f1.n}" in [
        line.replace("    0.", "   0.") for line in found.lines
    ]
    assert not [line for line in found.lines if "Brier" in line or "average precision" in line]


def test_without_calibration_probabilities_stay_as_they_are(tmp_path: Path) -> None:
    config = RunConfig()
    config.decision.calibrate = False
    predictions = boasting(40)
    found = results(RunDir(tmp_path), predictions, config, Selection("val/loss", 0.5, 0, 1))
    assert found.temperature == 1.0
    assert read_csv(tmp_path / "predictions.csv", "dog").probabilities == pytest.approx(predictions.probabilities)


@pytest.mark.parametrize(("rule", "threshold"), [("0.3", 0.3), ("0.5", 0.5)])
def test_without_validation_images_a_fixed_threshold_is_kept(tmp_path: Path, rule: str, threshold: float) -> None:
    config, run = RunConfig(), RunDir(tmp_path)
    config.decision.threshold = rule
    predictions = boasting(60, ("test",))
    found = results(run, predictions, config, Selection("train/loss", 0.5, 0, 1))
    assert (found.decision, found.temperature, found.val) == (None, 1.0, {})
    assert found.test == evaluate(predictions, threshold)
    written = run.read_json("metrics.json")
    assert written["decision"] is None
    assert written["provenance"]["threshold_and_temperature_from"] is None
    assert run.read_json("preprocessing.json")["threshold"] == threshold


def test_a_threshold_that_falls_short_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = RunConfig()
    config.decision.threshold = "precision>=1"
    predictions = boasting(60)
    with caplog.at_level(logging.WARNING, "raylight"):
        logging.getLogger("raylight").propagate = True
        found = results(RunDir(tmp_path), predictions, config, Selection("val/loss", 0.5, 0, 1))
    assert found.decision is not None
    said = "No threshold reaches decision.threshold=precision>=1 on validation; the nearest was taken."
    assert (said in caplog.messages) == (not found.decision.met)
    wrong = Predictions(
        predictions.paths, predictions.splits, 1 - predictions.labels, predictions.probabilities, ("cat", "dog"), "dog"
    )
    found = results(RunDir(tmp_path), wrong, config, Selection("val/loss", 0.5, 0, 1))
    assert not found.decision.met
    assert run_decision(tmp_path)["met"] is False
    assert said in caplog.messages


def run_decision(folder: Path) -> dict:
    return RunDir(folder).read_json("metrics.json")["decision"]


def test_where_training_has_met_every_test_image_there_are_no_metrics_without_them(tmp_path: Path) -> None:
    shared = tuple(SharedFile(f"{i}.png", f"train/{i}.png", "patient", f"p{i}") for i in range(20))
    metrics, lines = judged(RunDir(tmp_path), shared)
    assert not [name for name in metrics if name.startswith("test_unshared")]
    assert lines[-1].startswith("20 test images show a patient or a picture that is also in train or validation")
    assert lines[-1].endswith("such as 0.png, like train/0.png.")


def test_the_history_reads_back_without_its_gaps(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert read_history(run) == []
    run.write_text("history.csv", "epoch,train/loss,val/loss\n0,0.5,\n1,0.25,0.75\n")
    assert read_history(run) == [{"epoch": 0, "train/loss": 0.5}, {"epoch": 1, "train/loss": 0.25, "val/loss": 0.75}]


def test_plots_are_drawn_of_what_was_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is handed to the figures, which have tests of their own."""
    told: list = []
    monkeypatch.setattr(module, "draw_plots", lambda *arguments: told.append(arguments) or {})
    config, predictions = RunConfig(), boasting(40)
    for calibrate in (True, False):
        config.decision.calibrate = calibrate
        run = RunDir(tmp_path / str(calibrate))
        run.path.mkdir()
        run.write_text("history.csv", "epoch,train/loss\n0,0.5\n")
        preprocessing = Preprocessing.from_config(config.model).to_dict()
        found = write_results(config, run, predictions, preprocessing, Selection("val/loss", 0.5, 7, 9))
        folder, history, drawn, epoch, vector = told[-1]
        test, before, temperature = drawn.test, drawn.uncalibrated, drawn.temperature
        assert (folder, history) == (run / "plots", [{"epoch": 0, "train/loss": 0.5}])
        assert (drawn.estimates, drawn.threshold, epoch) == (found.test, found.decision.threshold, 7)
        assert vector == "none"
        if calibrate:
            assert temperature == found.temperature
            assert np.array_equal(before.probabilities, predictions.subset("test").probabilities)
            assert test.probabilities == pytest.approx(calibrated(before, temperature).probabilities)
        else:
            assert (before, temperature) == (None, None)
            assert test.probabilities == pytest.approx(predictions.subset("test").probabilities)


def test_an_answer_is_withheld_below_the_confidence_that_validation_promised(finished: FinishedRun) -> None:
    """16 validation images, all right at 0.9, promise 80 % (0.8 ** 16 < 0.05) and not 90 %."""
    config = RunConfig()
    config.report.plots = config.decision.calibrate = False
    preprocessing = Preprocessing.from_config(config.model).to_dict()
    for target, confidence in ((0.8, 0.9), (0.9, None)):
        config.decision.abstain = target
        found = write_results(
            config, finished.run, few_positives(finished), preprocessing, Selection("val/loss", 0.5, 1, 2)
        )
        told = finished.run.read_json("metrics.json")["abstention"]
        assert (told["confidence"], told["val_n"]) == (pytest.approx(confidence) if confidence else None, 16)
        assert told["test_answered"] == (1.0 if confidence else 0.0)
        assert finished.run.read_json("preprocessing.json")["abstain"] == told["confidence"]
        assert found.lines[-1].startswith(
            "Answers 100%" if confidence else "decision.abstain=0.9 can't be guaranteed by 16"
        )
        page = write_report(finished.run).read_text(encoding="utf-8")
        assert ("16 validation images: 100 % of the test images" in page) == (confidence is not None)
        assert ("No image is answered" in page) == (confidence is None)
