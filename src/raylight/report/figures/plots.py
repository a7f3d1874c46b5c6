"""The figures of a run: curves of training, confusion matrix, ROC, precision-recall, reliability, metrics.

Each function returns a matplotlib ``Figure`` made without pyplot, so that there is no global state and nothing to close.
``draw_plots`` writes them as PNG. Colours are Okabe and Ito's, which are safe for colour blindness; text is legible at a
width of 600 pixels. Leaves out pictures of images.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from raylight.config.rules.metric_names import LABELS, LOWER_IS_BETTER, METRICS
from raylight.evaluation.clinical.net_benefit import DecisionCurve
from raylight.evaluation.metrics import Estimate, confusion_matrix
from raylight.evaluation.predictions import Predictions
from raylight.report.figures.clinical import decision_curve_figure, probabilities_figure
from raylight.report.figures.curves import precision_recall_figure, reliability_figure, roc_figure
from raylight.report.figures.style import (
    BLUE,
    DASHED,
    FAINT,
    GREEN,
    INK,
    SKY,
    VERMILLION,
    interval_text,
    legend_above,
    panel,
    save_all,
    set_title,
    shortened,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


History = Sequence[Mapping[str, Any]]
"""Rows of ``history.csv``: epoch, train/loss, val/loss, train/accuracy, val/accuracy, learning_rate."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """Test predictions and the numbers that figures show.

    Attributes:
        test: the predictions, calibrated if the run's are.
        estimates: of each metric of ``test``.
        threshold: decision threshold of ``test``; ``None`` stands for 0.5.
        uncalibrated: the same predictions before ``temperature``, shown beside them; ``None`` if none was fitted.
        temperature: that made ``test`` from ``uncalibrated``.
        curve: the decision curve of ``test``; ``None`` with more than two classes.
    """

    test: Predictions
    estimates: Mapping[str, Estimate]
    threshold: float | None = None
    uncalibrated: Predictions | None = None
    temperature: float | None = None
    curve: DecisionCurve | None = None


def draw_plots(
    folder: Path, history: History, evaluated: Evaluated, best_epoch: int | None = None, vector: str = "none"
) -> dict[str, Path]:
    """Write every figure of a run.

    Args:
        folder: made if it doesn't exist.
        history: a row per epoch; may be empty.
        evaluated: the test predictions.
        best_epoch: the epoch whose checkpoint was chosen, as numbered in ``history``.
        vector: ``pdf`` or ``svg`` for a second file of each figure.

    Returns:
        The PNG of each figure, by name: ``loss``, ``accuracy``, ``learning_rate`` (where history has them),
        ``metrics``, ``confusion_matrix``, ``roc``, ``precision_recall``, ``reliability``; of two classes ``decision_curve``
        and ``probabilities``. A curve that can't be drawn because only one class occurs is left out.
    """
    test, estimates, threshold = evaluated.test, evaluated.estimates, evaluated.threshold
    figures = training_figures(history, best_epoch)
    figures["metrics"] = metrics_figure(estimates)
    figures["confusion_matrix"] = confusion_figure(test, threshold)
    if len(np.unique(test.labelled().labels)) > 1:
        figures["roc"] = roc_figure(test, estimates, threshold)
        figures["precision_recall"] = precision_recall_figure(test, estimates, threshold)
    figures["reliability"] = reliability_figure(test, estimates, evaluated.uncalibrated, evaluated.temperature)
    if evaluated.curve is not None:
        figures["decision_curve"] = decision_curve_figure(evaluated.curve, test, threshold)
        figures["probabilities"] = probabilities_figure(test, threshold)
    folder.mkdir(parents=True, exist_ok=True)
    return save_all(figures, folder, vector)


def training_figures(history: History, best_epoch: int | None = None) -> "dict[str, Figure]":
    """Draw loss, accuracy and learning rate by epoch, as far as the history has them."""
    figures = {}
    for name in ("loss", "accuracy"):
        lines = {split: _column(history, f"{split}/{name}") for split in ("train", "val")}
        if any(values for _, values in lines.values()):
            figures[name] = _curves_figure(name, lines, best_epoch)
    rate = _column(history, "learning_rate")
    if rate[1]:
        figures["learning_rate"] = _curves_figure("learning rate", {"learning rate": rate}, best_epoch)
    return figures


def _column(history: History, name: str) -> tuple[list[float], list[float]]:
    """Epochs, counted from 1, and values of a column, without empty rows."""
    pairs = []
    for row in history:
        cell = row.get(name)
        value = float(cell) if cell not in (None, "") else math.nan
        if math.isfinite(value):
            pairs.append((float(row["epoch"]) + 1, value))
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def _curves_figure(name: str, lines: Mapping[str, tuple[list[float], list[float]]], best_epoch: int | None) -> "Figure":
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure, ax = panel(2.6 if name == "learning rate" else 4.2)
    labels = {"train": ("train", BLUE), "val": ("validation", VERMILLION), "learning rate": (None, GREEN)}
    for split, (epochs, values) in lines.items():
        label, colour = labels[split]
        size = 9 if len(epochs) == 1 else 5 if len(epochs) <= 30 else 0
        ax.plot(epochs, values, color=colour, label=label, linewidth=2.2, marker="o", markersize=size)
    if best_epoch is not None:
        chosen = f"epoch {best_epoch + 1} chosen"
        ax.axvline(best_epoch + 1, color=FAINT, linewidth=1.4, linestyle=DASHED, zorder=1, label=chosen)
    ax.set_xlabel("epoch", fontsize=13, color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if name == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    if name == "learning rate":
        ax.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    set_title(ax, name.capitalize())
    legend_above(ax)
    return figure


def metrics_figure(estimates: Mapping[str, Estimate]) -> "Figure":
    """Draw each metric as a dot on its interval; an arrow marks those of which lower is better."""
    names = [name for name in estimates if name in METRICS]  # a user's metrics may have another range
    figure, ax = panel(0.42 * len(names) + 1.1)
    beside = ax.get_yaxis_transform()
    least = min([0.0, *(e.low for e in map(estimates.__getitem__, names) if not math.isnan(e.low))])
    for row, name in enumerate(names):
        estimate = estimates[name]
        if math.isnan(estimate.value):
            ax.text(1.03, row, "not defined", transform=beside, va="center", fontsize=12, color=FAINT)
            continue
        ax.plot([estimate.low, estimate.high], [row, row], color=SKY, linewidth=5, solid_capstyle="round")
        ax.plot(estimate.value, row, "o", color=BLUE, markersize=8)
        ax.text(1.03, row, interval_text(estimate), transform=beside, va="center", fontsize=12, color=INK)
    ax.set_yticks(range(len(names)), [LABELS[name] + " ↓" * (name in LOWER_IS_BETTER) for name in names])
    ax.set_ylim(len(names) - 0.4, -0.6)
    ax.set_xlim(least - 0.02, 1.02)
    ax.grid(axis="y", visible=False)
    ax.tick_params(axis="y", length=0)
    set_title(ax, "Metrics with 95 % intervals")
    return figure


def confusion_figure(predictions: Predictions, threshold: float | None = None) -> "Figure":
    """Draw the confusion matrix: counts, and shares of the true class.

    Up to 10 classes each cell shows both, up to 25 its count, beyond that its colour alone.
    """
    counts = confusion_matrix(predictions, threshold)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    k = len(counts)
    names = shortened(predictions.class_names, 24 if k <= 10 else 16)
    figure, ax = panel(4.9 if k <= 4 else 6.6)
    image = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1.1)
    for row in range(k if k <= 25 else 0):
        for column in range(k):
            count, share = int(counts[row, column]), float(shares[row, column])
            colour = "white" if share > 0.55 else INK
            if k <= 10:
                big = 22 if k <= 4 else 13
                middle = row - (0.1 if k <= 4 else 0.14)
                ax.text(column, middle, f"{count:,}", ha="center", va="center", fontsize=big, color=colour)
                ax.text(
                    column,
                    row + (0.2 if k <= 4 else 0.26),
                    f"{share:.0%}" if totals[row] else "–",
                    ha="center",
                    va="center",
                    fontsize=13 if k <= 4 else 9,
                    color=colour,
                )
            elif count:
                ax.text(column, row, f"{count}", ha="center", va="center", fontsize=8, color=colour)
    size = 13 if k <= 4 else 11 if k <= 10 else 8
    long = max(map(len, names)) > 40 / k
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if long else {}
    # With more than 45 classes names would overlap.
    ticks = range(0, k, math.ceil(k / 45))
    labels = [names[i] for i in ticks]
    ax.set_xticks(ticks, labels, fontsize=size, parse_math=False, **({"rotation": 90} if k > 10 else turned))
    ax.set_yticks(ticks, labels, fontsize=size, parse_math=False)
    ax.set_xlabel("predicted", fontsize=13, color=INK)
    ax.set_ylabel("true", fontsize=13, color=INK)
    ax.grid(visible=False)
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(k - 1) + 0.5, minor=True)
    ax.set_yticks(np.arange(k - 1) + 0.5, minor=True)
    ax.grid(which="minor", color="white", linewidth=3 if k <= 10 else 0.6)
    ax.tick_params(which="minor", length=0)
    if k > 10:
        bar = figure.colorbar(image, ax=ax, shrink=0.6, boundaries=np.linspace(0, 1, 256), ticks=[0, 0.5, 1])
        bar.ax.set_yticklabels(["0%", "50%", "100%"])
        bar.outline.set_visible(False)
        bar.ax.tick_params(labelsize=10, length=0, labelcolor=INK)
    set_title(ax, f"Confusion matrix, {counts.sum():,} images")
    return figure
