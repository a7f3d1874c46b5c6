"""Figures for decisions in practice, of two classes: net benefit by threshold, and the probabilities of each class."""

from typing import TYPE_CHECKING

import numpy as np

from raylight.evaluation.clinical.net_benefit import DecisionCurve
from raylight.evaluation.predictions import Predictions
from raylight.report.figures.style import (
    BLUE,
    DASHED,
    FAINT,
    INK,
    SKY,
    VERMILLION,
    legend_inside_or_below,
    panel,
    set_title,
    shorten,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def decision_curve_figure(curve: DecisionCurve, predictions: Predictions, threshold: float | None = None) -> "Figure":
    """Draw the net benefit of the model by threshold probability with its 95 % band, beside acting on all and on none.

    Args:
        curve: of ``predictions``.
        predictions: of two classes.
        threshold: the run's decision threshold, marked; ``None`` stands for 0.5.
    """
    from matplotlib.ticker import PercentFormatter

    name = shorten(predictions.positive_class, 20)
    figure, ax = panel(4.6)
    ax.fill_between(curve.thresholds, curve.low, curve.high, color=SKY, alpha=0.35, linewidth=0, label="95 % interval")
    ax.plot(curve.thresholds, curve.treat_all, color=VERMILLION, linewidth=1.8, label=f"all as {name}")
    ax.axhline(0, color=FAINT, linewidth=1.8, label="none")
    ax.plot(curve.thresholds, curve.model, color=BLUE, linewidth=2.6, label="model")
    _mark(ax, threshold)
    top = max(float(curve.high.max()), float(curve.treat_all.max()), 0.01)
    ax.set_ylim(-0.25 * top, 1.08 * top)
    ax.set_xlim(0, 1)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel(f"threshold probability of {name}", fontsize=13, color=INK, parse_math=False)
    ax.set_ylabel("net benefit per image", fontsize=13, color=INK)
    set_title(ax, "Decision curve")
    legend_inside_or_below(ax, predictions.labelled(), "best")
    return figure


def probabilities_figure(predictions: Predictions, threshold: float | None = None) -> "Figure":
    """Draw histograms of the positive class's probability, one for the images of each class.

    Args:
        predictions: of two classes.
        threshold: the run's decision threshold, marked; ``None`` stands for 0.5.
    """
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    labelled = predictions.labelled()
    figure, panels = panel(4.6, [1, 1])
    for ax, k, colour in zip(panels, (labelled.positive, 1 - labelled.positive), (BLUE, VERMILLION), strict=True):
        predicted = labelled.probabilities[labelled.labels == k, labelled.positive]
        ax.hist(predicted, np.linspace(0, 1, 21), color=colour, alpha=0.75, edgecolor="white")
        _mark(ax, threshold)
        ax.set_ylabel("images", fontsize=13, color=INK)
        ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=4))
        ax.set_xlim(0, 1)
        name = f"{shorten(predictions.class_names[k], 30)}, {len(predicted):,} images"
        ax.set_title(name, loc="right", fontsize=12, color=colour, parse_math=False)
    panels[-1].xaxis.set_major_formatter(PercentFormatter(1))
    claim = f"predicted probability of {shorten(predictions.positive_class, 30)}"
    panels[-1].set_xlabel(claim, fontsize=13, color=INK, parse_math=False)
    set_title(panels[0], "Probabilities by true class")
    return figure


def _mark(ax: "Axes", threshold: float | None) -> None:
    position = 0.5 if threshold is None else threshold
    ax.axvline(position, color=FAINT, linewidth=1.4, linestyle=DASHED, label=f"threshold {position:.3g}")
