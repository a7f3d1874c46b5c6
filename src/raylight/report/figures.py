"""The figures of a run: curves of training, confusion matrix, ROC, precision-recall, reliability, metrics.

Each function returns a matplotlib ``Figure`` that belongs to nobody else: no pyplot, no global state,
nothing to close. ``draw_plots`` writes them as PNG. Colours are Okabe and Ito's, which the colour-blind tell
apart; text is sized to be read at a width of 600 pixels. Leaves out pictures of images.
"""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float

from raylight.config.metric_names import LABELS, LOWER_IS_BETTER
from raylight.evaluation.calibration import reliability
from raylight.evaluation.metrics import Estimate, confusion_matrix, evaluate
from raylight.evaluation.predictions import Predictions, Verdicts
from raylight.storage.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW = "#E69F00", "#56B4E9", "#B8A800"
SERIES = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, YELLOW)
INK, FAINT, GRID = "#222222", "#767676", "#E4E4E4"
DASHED = (0, (4, 3))
WIDTH = 7.2
DPI = 150

History = Sequence[Mapping[str, Any]]
"""Rows of ``history.csv``: epoch, train/loss, val/loss, train/accuracy, val/accuracy, learning_rate."""


def draw_plots(
    folder: Path,
    history: History,
    test: Predictions,
    estimates: Mapping[str, Estimate] | None = None,
    threshold: float | None = None,
    uncalibrated: Predictions | None = None,
    temperature: float | None = None,
    best_epoch: int | None = None,
) -> dict[str, Path]:
    """Write every figure of a run.

    Args:
        folder: made when it isn't there.
        history: an epoch a row; may be empty.
        test: predictions to judge, calibrated if they are to be.
        estimates: of ``test``; ``None`` computes them.
        threshold: decision threshold of ``test``; ``None`` stands for 0.5.
        uncalibrated: the same predictions before ``temperature``, shown beside them.
        temperature: that made ``test`` from ``uncalibrated``.
        best_epoch: the epoch whose checkpoint was chosen, as numbered in ``history``.

    Returns:
        The file of each figure, by name: ``loss``, ``accuracy``, ``learning_rate`` (where history has them),
        ``metrics``, ``confusion_matrix``, ``roc``, ``precision_recall``, ``reliability``. A curve that can't
        be drawn because only one class occurs is left out.
    """
    estimates = evaluate(test, threshold) if estimates is None else estimates
    figures = training_figures(history, best_epoch)
    figures["metrics"] = metrics_figure(estimates)
    figures["confusion_matrix"] = confusion_figure(test, threshold)
    if len(np.unique(test.verdicts().labels)) > 1:
        figures["roc"] = roc_figure(test, estimates, threshold)
        figures["precision_recall"] = precision_recall_figure(test, estimates, threshold)
    figures["reliability"] = reliability_figure(test, estimates, uncalibrated, temperature)
    folder.mkdir(parents=True, exist_ok=True)
    return {name: save(figure, folder / f"{name}.png") for name, figure in figures.items()}


def save(figure: "Figure", path: Path) -> Path:
    """Write a figure in the format that the file's name says; returns the path."""
    content = io.BytesIO()
    with warnings.catch_warnings():
        # Class names may be written in a script that the font lacks; the figure shows boxes, as browsers do.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(content, dpi=DPI, format=path.suffix[1:])
    return write_atomically(path, content.getvalue())


def training_figures(history: History, best_epoch: int | None = None) -> "dict[str, Figure]":
    """Loss, accuracy and learning rate by epoch: those of them that the history has."""
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
    """Epochs and values of a column, without the rows that have none."""
    pairs = []
    for row in history:
        cell = row.get(name)
        value = float(cell) if cell not in (None, "") else math.nan
        if math.isfinite(value):
            pairs.append((float(row["epoch"]), value))
    return [epoch for epoch, _ in pairs], [value for _, value in pairs]


def _curves_figure(name: str, lines: Mapping[str, tuple[list[float], list[float]]], best_epoch: int | None) -> "Figure":
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    figure, ax = _figure(2.6 if name == "learning rate" else 4.2)
    labels = {"train": ("train", BLUE), "val": ("validation", VERMILLION), "learning rate": (None, GREEN)}
    for split, (epochs, values) in lines.items():
        label, colour = labels[split]
        size = 9 if len(epochs) == 1 else 5 if len(epochs) <= 30 else 0
        ax.plot(epochs, values, color=colour, label=label, linewidth=2.2, marker="o", markersize=size)
    if best_epoch is not None:
        chosen = f"epoch {best_epoch} chosen"
        ax.axvline(best_epoch, color=FAINT, linewidth=1.4, linestyle=DASHED, zorder=1, label=chosen)
    ax.set_xlabel("epoch", fontsize=13, color=INK)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    if name == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    if name == "learning rate":
        ax.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")
    _title(ax, name.capitalize())
    _legend_above(ax)
    return figure


def metrics_figure(estimates: Mapping[str, Estimate]) -> "Figure":
    """Every metric as a dot on its interval, an arrow at those that had better be low."""
    names = list(estimates)
    figure, ax = _figure(0.42 * len(names) + 1.1)
    beside = ax.get_yaxis_transform()
    least = min([0.0, *(e.low for e in estimates.values() if not math.isnan(e.low))])
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
    _title(ax, "Metrics with 95 % intervals")
    return figure


def confusion_figure(predictions: Predictions, threshold: float | None = None) -> "Figure":
    """Counts and, for each true class, the share that was given each class.

    Up to 10 classes each cell says both, up to 25 its count, beyond that colour alone speaks.
    """
    counts = confusion_matrix(predictions, threshold)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    k = len(counts)
    names = shortened(predictions.class_names, 24 if k <= 10 else 16)
    figure, ax = _figure(4.9 if k <= 4 else 6.6)
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
    # Beyond 45 classes every name would stand on its neighbour's.
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
    _title(ax, f"Confusion matrix, {counts.sum():,} images")
    return figure


def roc_figure(predictions: Predictions, estimates: Mapping[str, Estimate], threshold: float | None = None) -> "Figure":
    """Recall against false alarms at every threshold, with the AUROC and its interval.

    Two classes: the chosen threshold is marked. More classes: one class against the rest for each, of many
    classes the hardest ones in colour.

    Raises:
        ValueError: only one class occurs.
    """
    verdicts = predictions.verdicts(threshold)
    figure, ax = _figure(5.6 if verdicts.n_classes == 2 else 6.6)
    ax.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle=DASHED)
    curves = {}
    for k in _ranked_classes(verdicts):
        recall, false_alarms, _ = _curve(verdicts.probabilities[:, k], verdicts.labels == k)
        area = float(np.trapezoid(recall, false_alarms))
        curves[k] = (area, false_alarms, recall)
    _draw_curves(ax, curves, predictions, estimates["auroc"], "AUROC")
    if verdicts.n_classes == 2:
        hit, correct = verdicts.labels == verdicts.positive, verdicts.predicted == verdicts.labels
        recall_here, specificity = float(correct[hit].mean()), float(correct[~hit].mean())
        _mark_decision(ax, 1 - specificity, recall_here, threshold)
    _square(ax, "false alarms (1 − specificity)", "recall")
    _title(ax, _about("ROC" if verdicts.n_classes == 2 else "ROC and its area", predictions))
    _legend_inside_or_below(ax, verdicts, "lower right")
    return figure


def precision_recall_figure(
    predictions: Predictions, estimates: Mapping[str, Estimate], threshold: float | None = None
) -> "Figure":
    """Precision against recall at every threshold, with the average precision and its interval.

    Raises:
        ValueError: only one class occurs.
    """
    verdicts = predictions.verdicts(threshold)
    figure, ax = _figure(5.6 if verdicts.n_classes == 2 else 6.6)
    curves = {}
    for k in _ranked_classes(verdicts):
        recall, _, precision = _curve(verdicts.probabilities[:, k], verdicts.labels == k)
        # Average precision is a sum of steps, and between two thresholds nothing is known but them.
        area = float(np.sum(np.diff(recall) * precision[1:]))
        curves[k] = (area, np.repeat(recall, 2)[:-1], np.repeat(precision, 2)[1:])
    _draw_curves(ax, curves, predictions, estimates["average_precision"], "average precision")
    if verdicts.n_classes == 2:
        hit, chosen = verdicts.labels == verdicts.positive, verdicts.predicted == verdicts.positive
        ax.axhline(float(hit.mean()), color=FAINT, linewidth=1.2, linestyle=DASHED)
        if chosen.any():
            _mark_decision(ax, float(chosen[hit].mean()), float(hit[chosen].mean()), threshold)
    _square(ax, "recall", "precision")
    _title(ax, _about("Precision and recall" if verdicts.n_classes == 2 else "Average precision", predictions))
    _legend_inside_or_below(ax, verdicts, "lower left")
    return figure


def reliability_figure(
    predictions: Predictions,
    estimates: Mapping[str, Estimate],
    uncalibrated: Predictions | None = None,
    temperature: float | None = None,
) -> "Figure":
    """What the probabilities claim against what came true, and how often each was claimed.

    Args:
        predictions: to judge.
        estimates: of ``predictions``, for the calibration error.
        uncalibrated: the same before ``temperature``; drawn beside them.
        temperature: named in the legend.
    """
    from matplotlib.ticker import PercentFormatter

    figure, (ax, below) = _figure(6.6, [4, 1])
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
        series.insert(0, (uncalibrated, VERMILLION, 0.006, "as trained: ", before))
    edges = np.linspace(0, 1, 21)
    for who, colour, shift, label, error in series:
        bins = reliability(who, 10 if len(who) >= 200 else 5)
        whiskers = np.abs(np.stack([bins.observed - bins.low, bins.high - bins.observed]))
        ax.errorbar(
            bins.claimed + shift,
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
        claimed, _ = who.verdicts().claims()
        below.hist(claimed, edges, histtype="step", color=colour, linewidth=2)
    two = len(predictions.class_names) == 2
    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.set_ylabel("share that came true", fontsize=13, color=INK)
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    below.xaxis.set_major_formatter(PercentFormatter(1))
    below.set_ylabel("images", fontsize=13, color=INK)
    name = shorten(predictions.positive_class, 30)
    claim = f"claimed probability of {name}" if two else "claimed probability of the predicted class"
    below.set_xlabel(claim, fontsize=13, color=INK, parse_math=False)
    _title(ax, "Reliability", pad=36)
    _legend_above(ax, "lower left")
    return figure


def interval_text(estimate: Estimate) -> str:
    """A value with its interval, as in ``0.925 (0.801–0.974)``."""
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def shorten(name: str, longest: int) -> str:
    """The name, with its middle left out where it is longer than ``longest`` characters."""
    if len(name) <= longest:
        return name
    front = longest // 2
    return f"{name[:front]}…{name[len(name) - (longest - 1 - front) :]}"


def shortened(names: Sequence[str], longest: int) -> list[str]:
    """Names of at most ``longest`` characters, cut where it leaves most of them different."""
    ways = (
        [shorten(name, longest) for name in names],
        [name if len(name) <= longest else f"{name[: longest - 1]}…" for name in names],
        [name if len(name) <= longest else f"…{name[1 - longest :]}" for name in names],
    )
    return max(ways, key=lambda way: len(set(way)))


def _ranked_classes(verdicts: Verdicts) -> list[int]:
    occurring: list[int] = np.unique(verdicts.labels).tolist()
    if len(occurring) < 2:
        raise ValueError("a curve needs images of two classes")
    return [verdicts.positive] if verdicts.n_classes == 2 else occurring


def _curve(
    scores: Float[np.ndarray, " image"], truth: Bool[np.ndarray, " image"]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Recall, false alarm rate and precision, from the strictest threshold to the mildest."""
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(truth[order])[last_of_tie]
    chosen = np.flatnonzero(last_of_tie) + 1
    recall = np.append(0, hits / hits[-1])
    false_alarms = np.append(0, (chosen - hits) / (chosen[-1] - hits[-1]))
    return recall, false_alarms, np.append(hits[0] / chosen[0], hits / chosen)


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
            label = f"{names[k]} {area:.3f}"
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


_LEGEND: dict[str, Any] = {
    "frameon": True,
    "framealpha": 0.9,
    "edgecolor": "none",
    "fontsize": 12,
    "labelcolor": INK,
}


def _figure(height: float, panels: Sequence[float] = (1,)) -> "tuple[Figure, Any]":
    """A figure with one panel, or with several below one another that share what is across."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.12)
    figure = Figure(figsize=(WIDTH, height), layout=layout, facecolor="white")
    axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=panels, squeeze=False)[:, 0]
    for ax in axes:
        _dress(ax)
    return figure, axes if len(panels) > 1 else axes[0]


def _dress(ax: "Axes") -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(FAINT)
    ax.set_axisbelow(True)
    ax.grid(color=GRID, linewidth=0.8)
    ax.tick_params(labelsize=12, labelcolor=INK, color=FAINT)


def _title(ax: "Axes", text: str, pad: float = 10) -> None:
    ax.set_title(text, loc="left", fontsize=14, fontweight="bold", color=INK, pad=pad, parse_math=False)


def _legend_above(ax: "Axes", corner: str = "lower right") -> None:
    """A legend in a row above the axes, beside the title or (``lower left``) below it."""
    columns = len(ax.get_legend_handles_labels()[1])
    place: dict[str, Any] = {"loc": corner, "bbox_to_anchor": ("right" in corner, 1), "ncols": columns}
    if columns:
        ax.legend(**place, **_LEGEND, borderaxespad=0.2)


def _legend_inside_or_below(ax: "Axes", verdicts: Verdicts, corner: Any) -> None:
    """The legend of curves: where two classes leave room for it, else under the axes."""
    if verdicts.n_classes == 2:
        ax.legend(loc=corner, **_LEGEND)
    else:
        ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=2, **_LEGEND)


def _square(ax: "Axes", x: str, y: str) -> None:
    from matplotlib.ticker import PercentFormatter

    ax.set_xlim(-0.02, 1.02)
    ax.set_ylim(-0.02, 1.02)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel(x, fontsize=13, color=INK)
    ax.set_ylabel(y, fontsize=13, color=INK)
