"""Decision curves: the benefit of acting on the probabilities, beside acting on every image and on none.

Vickers and Elkin, "Decision curve analysis: a novel method for evaluating prediction models", Medical Decision Making 2006.
Two classes only. Not here: the threshold that a run decides by (``evaluation.calibration``), and the figure.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from threadpoolctl import threadpool_limits

from raylight.evaluation.bootstrap import resampling_weights
from raylight.evaluation.predictions import LabelledPredictions

THRESHOLDS = np.arange(1, 100) / 100
"""Probabilities from which on one acts, 1 to 99 %."""


@dataclass(frozen=True, eq=False)
class DecisionCurve:
    """Net benefit by threshold probability, in true positives per image.

    Attributes:
        thresholds: probability from which on one acts.
        model: net benefit of acting where the model's probability is at least the threshold.
        low: lower bound of ``model``, 95 %.
        high: upper bound.
        treat_all: net benefit of acting on every image; acting on none has 0.
        better: whether the model beats both acting on all and on none, beyond chance (one-sided, 2.5 %).
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


def decision_curve(labelled: LabelledPredictions, n_resamples: int = 1000, seed: int = 0) -> DecisionCurve:
    """The decision curve of the positive class, with percentile bootstrap intervals (of groups where there are any).

    Args:
        labelled: of two classes; calibrated, since probabilities are compared with thresholds.
        n_resamples: of the bootstrap.
        seed: of the bootstrap.

    Returns:
        Net benefit at each of ``THRESHOLDS``.

    Raises:
        ValueError: not two classes.

    Example:
        >>> labels = np.repeat([0, 1], 50)
        >>> perfect = LabelledPredictions(labels, np.eye(2)[labels], labels, positive=1, groups=None)
        >>> curve = decision_curve(perfect, n_resamples=100)
        >>> curve.model[49].item(), curve.treat_all[49].item()  # at a threshold of 0.5
        (0.5, 0.0)
    """
    if labelled.n_classes != 2:
        raise ValueError(f"a decision curve needs two classes, not {labelled.n_classes}")
    positive = labelled.labels == labelled.positive
    acts = labelled.probabilities[:, labelled.positive, None] >= THRESHOLDS
    true, false = (acts & positive[:, None]).astype(np.float32), (acts & ~positive[:, None]).astype(np.float32)
    rates = np.concatenate([true, false, positive[:, None].astype(np.float32)], axis=1)
    k, n = len(THRESHOLDS), len(positive)

    def curves(shares: Float[np.ndarray, "rows rate"]) -> tuple[np.ndarray, np.ndarray]:
        prevalence = shares[:, -1:]
        model = net_benefit(shares[:, :k], shares[:, k : 2 * k], THRESHOLDS)
        return model, net_benefit(prevalence, 1 - prevalence, THRESHOLDS)

    model, treat_all = curves(rates.mean(axis=0, dtype=np.float64)[None])
    with threadpool_limits(1, "blas"):
        drawn = [
            curves((weights @ rates).astype(np.float64) / weights.sum(axis=1, keepdims=True))
            for weights in resampling_weights(n, labelled.groups, n_resamples, seed)
        ]
    resampled = np.concatenate([chunk[0] for chunk in drawn])
    gain = resampled - np.maximum(np.concatenate([chunk[1] for chunk in drawn]), 0)
    low, high = np.quantile(resampled, (0.025, 0.975), axis=0)
    better = np.quantile(gain, 0.025, axis=0) > 1e-9
    return DecisionCurve(THRESHOLDS, model[0], low, high, treat_all[0], better)
