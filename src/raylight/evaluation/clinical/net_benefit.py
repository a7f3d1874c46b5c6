"""Decision curves: the benefit of acting on the probabilities, beside acting on every image and on none.

Vickers and Elkin, "Decision curve analysis: a novel method for evaluating prediction models", Medical Decision Making 2006.
Two classes only. Not here: the threshold that a run decides by (``evaluation.calibration``), and the figure.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from raylight.evaluation.intervals import Interval, effective_size, wilson
from raylight.evaluation.predictions import LabelledPredictions

THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities from which on one acts, 1 to 99 %."""


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit by threshold probability, in true positives per image.

    Attributes:
        thresholds: probability from which on one acts.
        model: net benefit of acting where the model's probability is at least the threshold.
        low: lower bound of ``model``, 95 % at each threshold.
        high: upper bound.
        treat_all: net benefit of acting on every image; acting on none has 0.
        better: whether the model beats both acting on all and on none, beyond chance (one-sided, 2.5 % at
            each threshold).
    """

    thresholds: Float[np.ndarray, " threshold"]
    model: Float[np.ndarray, " threshold"]
    low: Float[np.ndarray, " threshold"]
    high: Float[np.ndarray, " threshold"]
    treat_all: Float[np.ndarray, " threshold"]
    better: Bool[np.ndarray, " threshold"]

    @property
    def useful(self) -> tuple[float, float] | None:
        """The widest range of neighbouring thresholds at which the model beats acting on all and on none; None without one."""
        edges = np.flatnonzero(np.diff(np.concatenate([[False], self.better, [False]]).astype(np.int8)))
        ranges = [(self.thresholds[first], self.thresholds[last - 1]) for first, last in edges.reshape(-1, 2)]
        return max(ranges, key=lambda pair: pair[1] - pair[0], default=None)

    def as_json(self) -> dict[str, Any]:
        """The entry in ``metrics.json``."""
        curves = ("thresholds", "model", "low", "high", "treat_all")
        return {
            "better_than_all_or_none": self.useful,
            **{name: getattr(self, name).round(6).tolist() for name in curves},
        }


def net_benefit(
    true_positives: Float[np.ndarray, "*rows threshold"],
    false_positives: Float[np.ndarray, "*rows threshold"],
    thresholds: Float[np.ndarray, " threshold"],
) -> Float[np.ndarray, "*rows threshold"]:
    """Net benefit: true positives minus false positives, weighted by the odds of the threshold: TP/n - FP/n * t / (1 - t).

    Args:
        true_positives: as a share of all images, 0 to 1.
        false_positives: as a share of all images, 0 to 1.
        thresholds: above 0 and below 1.

    Returns:
        True positives per image, at most 1.

    Example:
        >>> net_benefit(np.array([0.2]), np.array([0.3]), np.array([0.25])).round(3)
        array([0.1])
    """
    found: Float[np.ndarray, "*rows threshold"] = true_positives - false_positives * thresholds / (1 - thresholds)
    return found


def decision_curve(labelled: LabelledPredictions) -> DecisionCurve:
    """The decision curve of the positive class.

    Its bounds combine Wilson's of both rates (MOVER; Zou 2007, for correlated estimates). Resampling isn't enough: resamples of
    images without a false positive have none either, however much one would cost.

    Args:
        labelled: of two classes; calibrated, since probabilities are compared with thresholds.

    Returns:
        Net benefit at each of ``THRESHOLDS``.

    Raises:
        ValueError: not two classes.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> perfect = LabelledPredictions(labels, np.eye(2)[labels], labels, positive=1, groups=None)
        >>> curve = decision_curve(perfect)
        >>> curve.model[49].item(), curve.treat_all[49].item()  # at a threshold of 0.5
        (0.5, 0.0)
    """
    if labelled.n_classes != 2:
        raise ValueError(f"a decision curve needs two classes, not {labelled.n_classes}")
    positive = labelled.labels == labelled.positive
    acts = labelled.probabilities[:, labelled.positive, None] >= THRESHOLDS
    hits, false_alarms = acts & positive[:, None], acts & ~positive[:, None]
    bounds, better = [], []
    for k, threshold in enumerate(THRESHOLDS.tolist()):
        odds, right, wrong = threshold / (1 - threshold), hits[:, k], false_alarms[:, k]
        missed, spared = positive & ~right, ~positive & ~wrong
        bounds.append(_difference((right, 1), (wrong, odds), labelled.groups))
        beside_all = _difference((spared, odds), (missed, 1), labelled.groups)
        better.append(min(bounds[-1].low, beside_all.low) > 1e-9)
    return DecisionCurve(
        thresholds=THRESHOLDS,
        model=net_benefit(hits.mean(axis=0), false_alarms.mean(axis=0), THRESHOLDS),
        low=np.array([low for low, _ in bounds]),
        high=np.array([high for _, high in bounds]),
        treat_all=net_benefit(positive.mean(), (~positive).mean(), THRESHOLDS),
        better=np.array(better),
    )


Weighted = tuple[Bool[np.ndarray, " image"], float]
"""Which images are counted, and how much each weighs."""


def _difference(gains: Weighted, losses: Weighted, groups: Int[np.ndarray, " image"] | None) -> Interval:
    """The interval of the weighted gains per image minus the weighted losses; no image is both."""
    sizes = [effective_size(which, groups) for which, _ in (gains, losses)]
    p, q = (float(which.mean()) for which, _ in (gains, losses))
    (p_low, p_high), (q_low, q_high) = (wilson(share * n, n) for share, n in zip((p, q), sizes, strict=True))
    together = 2 * np.sqrt(p * q / ((1 - p) * (1 - q))) if p + q < 1 else 2.0  # minus twice their correlation
    value = gains[1] * p - losses[1] * q

    def distance(of_gains: float, of_losses: float) -> float:
        x, y = gains[1] * of_gains, losses[1] * of_losses
        return float(np.sqrt(x**2 + y**2 + together * x * y))

    return Interval(value - distance(p - p_low, q_high - q), value + distance(p_high - p, q - q_low))
