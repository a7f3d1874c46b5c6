"""From predictions to the run folder's results: metrics with intervals, calibration, decision, plots.

The temperature and the decision threshold are chosen on validation; the test images are then evaluated once. Leaves out the
pages (``run_page``) and Weights & Biases (``runs.tracking``).
"""

import csv
import hashlib
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from raylight.config.rules.decision_rule import parse_rule
from raylight.config.rules.metric_names import LABELS, METRICS
from raylight.config.schema import RunConfig
from raylight.data.splits.leakage import SharedFile
from raylight.evaluation.abstention import answered_of, choose_confidence
from raylight.evaluation.calibration import Decision, calibrated, choose_threshold, fit_temperature
from raylight.evaluation.caveats import caveat_sentences
from raylight.evaluation.clinical.net_benefit import DecisionCurve, decision_curve
from raylight.evaluation.clinical.recalibration import recalibration
from raylight.evaluation.definitions.own import OwnMetrics
from raylight.evaluation.metrics import Estimate, as_json, evaluate
from raylight.evaluation.predictions import Predictions, write_csv
from raylight.report.figures.plots import Evaluated, draw_plots
from raylight.runs.looks import record_test
from raylight.runs.run_dir import RunDir

log = logging.getLogger(__name__)

HELD_OUT_FILE = "held_out.csv"
"""Predictions of a fold's held-out images after the last epoch, uncalibrated; a cross-validation joins them."""


@dataclass(frozen=True)
class Selection:
    """How the checkpoint was chosen.

    Attributes:
        monitor: the validation metric.
        value: its value at the chosen epoch.
        epoch: the chosen epoch, counted from 0 as in ``history.csv``.
        epochs: how many were trained.
        stopped_by: the setting that ended training before its last epoch, ``trainer.max_minutes`` or ``trainer.patience``.
    """

    monitor: str
    value: float
    epoch: int
    epochs: int
    stopped_by: str | None = None


@dataclass(frozen=True)
class Circumstances:
    """Entries of ``metrics.json`` beside the metrics.

    Attributes:
        costs: seconds of each stage, memory and so on, written under ``cost``.
        shared: test images whose patient or picture is in train or validation, too; metrics are also given without them.
        split_warnings: where a split's size isn't what the settings ask for.
        unknown: result of ``decision.unknown``; None if it isn't set.
    """

    costs: Mapping[str, Any] = field(default_factory=dict)
    shared: Sequence[SharedFile] = ()
    split_warnings: Sequence[str] = ()
    unknown: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Attributes:
        test: every test metric with its interval.
        val: the same of validation; empty where nothing was held out.
        decision: the threshold and how it was chosen.
        temperature: of the calibrated probabilities; 1 without calibration.
        plots: figure files by name.
        lines: the result for the terminal.
        summary: flat numbers for a dashboard.
    """

    test: Mapping[str, Estimate]
    val: Mapping[str, Estimate]
    decision: Decision | None
    temperature: float
    plots: Mapping[str, Path]
    lines: tuple[str, ...]
    summary: Mapping[str, float]


def write_results(
    config: RunConfig,
    run: RunDir,
    predictions: Predictions,
    preprocessing: Mapping[str, Any],
    selection: Selection,
    circumstances: Circumstances = Circumstances(),
) -> Results:
    """Evaluate a run and write ``metrics.json``, ``predictions.csv``, ``preprocessing.json`` and ``plots/``.

    Args:
        config: the run's settings.
        run: its folder, with ``history.csv`` in it.
        predictions: of the validation and test images, uncalibrated.
        preprocessing: of images for the network; classes, temperature and threshold are added to it.
        selection: how the checkpoint was chosen.
        circumstances: further entries of ``metrics.json``.
    """
    shared = circumstances.shared
    val, test = predictions.subset("val"), predictions.subset("test")
    temperature = fit_temperature(val) if config.decision.calibrate and len(val) else 1.0
    rule = config.decision
    decision = (
        choose_threshold(calibrated(val, temperature), rule.threshold, rule.cost_miss, rule.cost_false_alarm)
        if len(val)
        else None
    )
    # Without validation images only a fixed threshold applies.
    threshold = decision.threshold if decision else parse_rule(rule.threshold).value
    if decision is not None and not decision.met:
        log.warning("No threshold reaches decision.threshold=%s on validation; the nearest was taken.", rule.threshold)
    scaled = calibrated(predictions, temperature)
    write_csv(scaled, run / "predictions.csv", threshold)
    calibrated_test = scaled.subset("test")
    own = OwnMetrics(config.metrics, len(predictions.class_names), predictions.positive)
    estimates = evaluate(calibrated_test, threshold, own=own)
    val_estimates = evaluate(scaled.subset("val"), threshold, own=own) if len(val) else {}
    unshared = _unshared(calibrated_test, threshold, shared)
    before = {name: estimate for name, estimate in evaluate(test, threshold).items() if name in ("ece", "brier")}
    answered = None
    if rule.abstain is not None and len(val):
        chosen = choose_confidence(scaled.subset("val").labelled(threshold), threshold, rule.abstain)
        answered = answered_of(chosen, calibrated_test.labelled(threshold), threshold)
    curve = decision_curve(calibrated_test.labelled()) if len(predictions.class_names) == 2 else None
    run.write_json(
        "metrics.json",
        {
            **as_json(estimates, "test/"),
            **as_json(before, "test/uncalibrated_"),
            **as_json(val_estimates, "val/"),
            **as_json(unshared, "test_unshared/"),
            "decision": _decision_json(decision),
            **({"unknown": dict(circumstances.unknown)} if circumstances.unknown else {}),
            **({"abstention": answered.as_json()} if answered else {}),
            **_clinical_json(calibrated_test, curve),
            "provenance": _provenance(calibrated_test, selection, len(val) > 0),
            "leakage": {"test_files_shared": len(shared), "files": [asdict(one) for one in shared]},
            "split_warnings": list(circumstances.split_warnings),
            "cost": dict(circumstances.costs),
        },
    )
    record_test(run, selection.epochs)
    run.write_json(
        "preprocessing.json",
        {
            **preprocessing,
            "class_names": list(predictions.class_names),
            "positive_class": predictions.positive_class,
            "head": config.model.head,
            "temperature": temperature,
            "threshold": threshold,
            **({"abstain": answered and answered.chosen.confidence} if rule.abstain is not None else {}),
        },
    )
    plots: Mapping[str, Path] = {}
    if config.report.plots:
        uncalibrated, scaled_by = (test, temperature) if temperature != 1.0 else (None, None)
        evaluated = Evaluated(calibrated_test, estimates, threshold, uncalibrated, scaled_by, curve)
        vector = config.report.vector
        plots = draw_plots(run.folder("plots"), read_history(run), evaluated, selection.epoch, vector)
    return Results(
        test=estimates,
        val=val_estimates,
        decision=decision,
        temperature=temperature,
        plots=plots,
        lines=(
            *_lines(estimates, calibrated_test, selection),
            *_leakage_lines(unshared, shared),
            *([answered.sentence()] if answered else []),
        ),
        summary=_summary(estimates, selection),
    )


def read_history(run: RunDir) -> list[dict[str, float]]:
    """The rows of ``history.csv``; cells that a row leaves empty are left out."""
    path = run / "history.csv"
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [{name: float(cell) for name, cell in row.items() if cell} for row in csv.DictReader(file)]


def _decision_json(decision: Decision | None) -> dict[str, Any] | None:
    """How the threshold was chosen; its value is in ``preprocessing.json``, beside the temperature."""
    if decision is None:
        return None
    return {
        "rule": decision.rule,
        "chosen_on": "val",
        "val_metric": decision.metric,
        "val_value": decision.value,
        "val_low": _finite(decision.interval.low),
        "val_high": _finite(decision.interval.high),
        "val_n": decision.n,
        "met": decision.met,
    }


def _clinical_json(test: Predictions, curve: DecisionCurve | None) -> dict[str, Any]:
    """The entries ``recalibration`` and ``decision_curve``; none with more than two classes."""
    if curve is None:
        return {}
    found = recalibration(test.labelled())
    return {"recalibration": found and found.as_json(), "decision_curve": curve.as_json()}


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


def _unshared(test: Predictions, threshold: float | None, shared: Sequence[SharedFile]) -> dict[str, Estimate]:
    """The metrics without test images shared with training; none without such images, or without others."""
    met = {one.path for one in shared}
    rest = test.where(np.array([path not in met for path in test.paths], dtype=bool))
    return evaluate(rest, threshold) if shared and len(rest) else {}


def _leakage_lines(unshared: Mapping[str, Estimate], shared: Sequence[SharedFile]) -> Iterator[str]:
    if not shared:
        return
    first = shared[0]
    yield (
        f"{len(shared)} test images show a patient or a picture that is also in train or validation (metrics.json, leakage), "
        f"such as {first.path}, like {first.partner}."
    )
    if unshared:
        accuracy = unshared["accuracy"]
        yield (
            f"  accuracy without them {accuracy.value:.3f}   95 % interval {accuracy.low:.3f} to {accuracy.high:.3f}   "
            f"n = {accuracy.n}"
        )


def _provenance(test: Predictions, selection: Selection, has_val: bool) -> dict[str, Any]:
    names = "\n".join(sorted(test.paths)).encode("utf-8", "surrogateescape")
    return {
        "test_files_sha256": hashlib.sha256(names).hexdigest(),
        "test_files": len(test),
        "selected_by": selection.monitor,
        "selected_value": selection.value,
        "selected_epoch": selection.epoch,
        "epochs_trained": selection.epochs,
        "stopped_by": selection.stopped_by,
        "threshold_and_temperature_from": "val" if has_val else None,
    }


def _lines(estimates: Mapping[str, Estimate], test: Predictions, selection: Selection) -> tuple[str, ...]:
    """The result for the terminal."""
    main = ("accuracy", "balanced_accuracy", "recall", "specificity", "f1", "auroc", "ece")
    shown = [*main, *(name for name in estimates if name not in METRICS)]
    heading = (
        f"Test: {len(test)} images, checkpoint of epoch {selection.epoch + 1} of {selection.epochs} "
        f"(chosen by {selection.monitor})"
    )
    rows = [
        f"  {LABELS[name]:<20} {estimate.value:6.3f}   95 % interval {estimate.low:.3f} to {estimate.high:.3f}"
        f"   n = {estimate.n}{' *' if estimate.caveat else ''}"
        for name, estimate in estimates.items()
        if name in shown
    ]
    caveats = caveat_sentences({name: one.caveat for name, one in estimates.items() if name in shown})
    return (heading, *rows, *(f"  * {sentence}" for sentence in caveats))


def _summary(estimates: Mapping[str, Estimate], selection: Selection) -> dict[str, float]:
    summary: dict[str, float] = {"best_epoch": selection.epoch, f"best/{selection.monitor}": selection.value}
    for name, estimate in estimates.items():
        summary[f"test/{name}"] = estimate.value
        summary[f"test/{name}_low"] = estimate.low
        summary[f"test/{name}_high"] = estimate.high
    return summary
