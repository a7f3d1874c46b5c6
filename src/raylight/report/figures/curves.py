"""Curves over all thresholds: ROC, precision-recall, and reliability of the probabilities."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from raylight.evaluation.auroc import at_each_threshold
from raylight.evaluation.calibration import reliability
from raylight.evaluation.clinical.recalibration import smooth
from raylight.evaluation.metrics import Estimate, evaluate
from raylight.evaluation.predictions import LabelledPredictions, Predictions
from raylight.report.figures.style import (
    BLUE,
    DASHED,
    FAINT,
    INK,
    SERIES,
    VERMILLION,
    entry,
    interval_text,
    legend_above,
    legend_inside_or_below,
    panel,
    set_title,
    shorten,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def roc_figure(predictions: Predictions, estimates: Mapping[str, Estimate], threshold: float | None = None) -> "Figure":
    """Draw recall against the false positive rate at each threshold, with the AUROC and its interval.

    Two classes: the chosen threshold is marked. More classes: a one-vs-rest curve for each, of many
    classes the hardest ones in colour.

    Raises:
        ValueError: only one class occurs.
    """
    labelled = predictions.labelled(threshold)
    figure, ax = panel(5.6 if labelled.n_classes == 2 else 6.6)
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=DASHED)
    curves = {}
    for k in _ranked_classes(labelled):
        recall, false_positive_rate, _ = at_each_threshold(labelled.probabilities[:, k], labelled.labels == k)
        area = float(np.trapezoid(recall, false_positive_rate))
        curves[k] = (area, false_positive_rate, recall)
    _draw_curves(ax, curves, predictions, estimates["auroc"], "AUROC")
    if labelled.n_classes == 2:
        hit, correct = labelled.labels == labelled.positive, labelled.predicted == labelled.labels
        recall_here, specificity = float(correct[hit].mean()), float(correct[~hit].mean())
        _mark_decision(ax, 1 - specificity, recall_here, threshold)
    _square(ax, "false positive rate (1 − specificity)", "recall")
    set_title(ax, _about("ROC" if labelled.n_classes == 2 else "ROC and its area", predictions))
    legend_inside_or_below(ax, labelled, "lower right")
    return figure


def precision_recall_figure(
    predictions: Predictions, estimates: Mapping[str, Estimate], threshold: float | None = None
) -> "Figure":
    """Draw precision against recall at each threshold, with the average precision and its interval.

    Raises:
        ValueError: only one class occurs.
    """
    labelled = predictions.labelled(threshold)
    figure, ax = panel(5.6 if labelled.n_classes == 2 else 6.6)
    curves = {}
    for k in _ranked_classes(labelled):
        recall, _, precision = at_each_threshold(labelled.probabilities[:, k], labelled.labels == k)
        # Average precision is a sum of steps; precision isn't interpolated between thresholds.
        area = float(np.sum(np.diff(recall) * precision[1:]))
        curves[k] = (area, np.repeat(recall, 2)[:-1], np.repeat(precision, 2)[1:])
    _draw_curves(ax, curves, predictions, estimates["average_precision"], "average precision")
    if labelled.n_classes == 2:
        hit, chosen = labelled.labels == labelled.positive, labelled.predicted == labelled.positive
        ax.axhline(float(hit.mean()), color=FAINT, linewidth=1.2, linestyle=DASHED)
        if chosen.any():
            _mark_decision(ax, float(chosen[hit].mean()), float(hit[chosen].mean()), threshold)
    _square(ax, "recall", "precision")
    set_title(ax, _about("Precision and recall" if labelled.n_classes == 2 else "Average precision", predictions))
    legend_inside_or_below(ax, labelled, "lower left")
    return figure


def reliability_figure(
    predictions: Predictions,
    estimates: Mapping[str, Estimate],
    uncalibrated: Predictions | None = None,
    temperature: float | None = None,
) -> "Figure":
    """Draw predicted probability against observed frequency, in bins and as a smooth curve (dashed), above a histogram.

    Args:
        predictions: of one split.
        estimates: of ``predictions``, for the calibration error.
        uncalibrated: the same before ``temperature``; drawn beside them.
        temperature: for the legend.
    """
    from matplotlib.ticker import PercentFormatter

    figure, (ax, below) = panel(6.6, [4, 1])
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=DASHED)
    scaled = "" if temperature is None else f", T = {temperature:.2f}"
    series = [
        (
            predictions,
            BLUE,
            0.0,
            "" if uncalibrated is None else f"calibrated{scaled}: ",
            estimates["ece"].value,
        )
    ]
    if uncalibrated is not None:
        before = evaluate(uncalibrated, n_resamples=1)["ece"].value
        series.insert(0, (uncalibrated, VERMILLION, 0.006, "uncalibrated: ", before))
    edges = np.linspace(0, 1, 21)
    for who, colour, shift, label, error in series:
        bins = reliability(who, 10 if len(who) >= 200 else 5)
        whiskers = np.abs(np.stack([bins.observed - bins.low, bins.high - bins.observed]))
        ax.errorbar(
            bins.predicted + shift,
            bins.observed,
            yerr=whiskers,
            color=colour,
            marker="o",
            markersize=7,
            linewidth=1.6,
            elinewidth=1.4,
            capsize=3,
            label=f"{label}ECE {error:.3f}",
        )
        predicted, truth = who.labelled().confidences()
        ax.plot(*smooth(predicted, truth.astype(np.float64)), color=colour, linewidth=1.2, linestyle=DASHED, zorder=1)
        below.hist(predicted, edges, histtype="step", color=colour, linewidth=2)
    two = len(predictions.class_names) == 2
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel("observed frequency", fontsize=13, color=INK)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    below.xaxis.set_major_formatter(PercentFormatter(1))
    below.set_ylabel("images", fontsize=13, color=INK)
    name = shorten(predictions.positive_class, 30)
    claim = f"predicted probability of {name}" if two else "predicted probability of the predicted class"
    below.set_xlabel(claim, fontsize=13, color=INK, parse_math=False)
    set_title(ax, "Reliability", pad=36)
    legend_above(ax, "lower left")
    return figure


def _ranked_classes(labelled: LabelledPredictions) -> list[int]:
    occurring: list[int] = np.unique(labelled.labels).tolist()
    if len(occurring) < 2:
        raise ValueError("a curve needs images of two classes")
    return [labelled.positive] if labelled.n_classes == 2 else occurring


def _draw_curves(
    ax: "Axes",
    curves: Mapping[int, tuple[float, np.ndarray, np.ndarray]],
    predictions: Predictions,
    estimate: Estimate,
    name: str,
) -> None:
    """One curve, or one for each class: of more than seven, the four with the smallest area in colour."""
    if len(predictions.class_names) == 2:
        ((_, x, y),) = curves.values()
        ax.plot(x, y, color=BLUE, linewidth=2.6, label=f"{name} {interval_text(estimate)}")
        return
    ax.plot([], [], " ", label=f"mean {interval_text(estimate)}")
    hardest = sorted(curves, key=lambda k: curves[k][0])
    coloured = hardest if len(hardest) <= len(SERIES) else hardest[:4]
    names = shortened(predictions.class_names, 22)
    for k in reversed(hardest):
        area, x, y = curves[k]
        if k in coloured:
            label = entry(f"{names[k]} {area:.3f}")
            ax.plot(x, y, color=SERIES[coloured.index(k)], linewidth=2.2, label=label, zorder=3)
        else:
            ax.plot(x, y, color="#C9C9C9", linewidth=1, zorder=1)
    if len(coloured) < len(hardest):
        ax.plot([], [], color="#C9C9C9", label=f"the {len(hardest) - len(coloured)} other classes")


def _mark_decision(ax: "Axes", x: float, y: float, threshold: float | None) -> None:
    label = f"threshold {0.5 if threshold is None else threshold:.3g}"
    ax.plot(x, y, "o", color=VERMILLION, markersize=10, label=label, zorder=4, clip_on=False)


def _about(what: str, predictions: Predictions) -> str:
    n = int((predictions.labels >= 0).sum())
    if len(predictions.class_names) > 2:
        return f"{what}, {len(predictions.class_names)} classes, {n:,} images"
    positives = int((predictions.labels == predictions.positive).sum())
    return f"{what}: {shorten(predictions.positive_class, 20)}, {positives:,} of {n:,} images"


def _square(ax: "Axes", x: str, y: str) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel(x, fontsize=13, color=INK)
    ax.set_ylabel(y, fontsize=13, color=INK)
