"""Calibration intercept, slope and smooth curve: are probabilities right on average, and neither too extreme nor too moderate?

Cox, "Two further applications of a model for binary regression", Biometrika 1958; Van Calster et al., "Calibration: the
Achilles heel of predictive analytics", BMC Medicine 2019; Austin and Steyerberg, Statistics in Medicine 2014 (the smooth
curve). Two classes only. Not here: the calibration error in bins and temperature scaling (``evaluation``).
"""

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit, logit

from raylight.evaluation.intervals import UNDEFINED, Interval, Z
from raylight.evaluation.predictions import LabelledPredictions

POINTS = 200
"""Points of the smooth curve at most."""

EDGE = 1e-6
"""Probabilities are kept this far from 0 and 1, where their logits are infinite."""


@dataclass(frozen=True, eq=False)
class Recalibration:
    """Logistic recalibration: how the logits would have to change to fit the outcomes.

    Attributes:
        slope: of the logits in a logistic regression of the outcome; 1 is ideal, below 1 the probabilities are too extreme.
        slope_interval: 95 %.
        intercept: to be added to the logits so that their mean is right (slope 1); 0 is ideal, above 0 the probabilities
            are too low.
        intercept_interval: 95 %.
        n: images.
        predicted: probabilities at the points of the smooth curve, in ascending order.
        observed: frequency at each of them, by local regression.
        mean_error: mean distance between predicted and observed (integrated calibration index, Austin and Steyerberg 2019).
    """

    slope: float
    slope_interval: Interval
    intercept: float
    intercept_interval: Interval
    n: int
    predicted: Float[np.ndarray, " point"]
    observed: Float[np.ndarray, " point"]
    mean_error: float

    def as_json(self) -> dict[str, Any]:
        """The entry in ``metrics.json``."""
        both = (("slope", self.slope, self.slope_interval), ("intercept", self.intercept, self.intercept_interval))
        fitted = {name: {"value": value, "low": low, "high": high, "n": self.n} for name, value, (low, high) in both}
        return {**fitted, "mean_error": self.mean_error}


def recalibration(labelled: LabelledPredictions) -> Recalibration | None:
    """Logistic recalibration of the positive class's probabilities.

    Intervals are Wald's; with groups, from the cluster-robust covariance. Where the probabilities separate the classes without
    error, no finite slope fits, and slope and its interval are NaN.

    Args:
        labelled: of two classes.

    Returns:
        None where only one class occurs.

    Raises:
        ValueError: not two classes.

    Example:
        >>> truth, logits = np.array([0, 0, 1, 0, 1, 1] * 20), np.array([-2.0, -1, -0.5, 0.5, 1, 2] * 20)
        >>> of = lambda logits: np.stack([1 / (1 + np.exp(logits)), 1 / (1 + np.exp(-logits))], axis=1)
        >>> fits = [recalibration(LabelledPredictions(truth, of(k * logits), truth, 1, None)) for k in (1, 2)]
        >>> round(fits[0].slope / fits[1].slope, 3)  # logits twice as large have half the slope
        2.0
    """
    if labelled.n_classes != 2:
        raise ValueError(f"a calibration slope needs two classes, not {labelled.n_classes}")
    predicted = labelled.probabilities[:, labelled.positive]
    truth = (labelled.labels == labelled.positive).astype(np.float64)
    if len(np.unique(truth)) < 2:
        return None
    logits = logit(np.clip(predicted, EDGE, 1 - EDGE))
    constant = np.ones_like(logits)
    intercept, of_intercept = _fit(truth, constant[:, None], logits, labelled.groups)
    slope, of_slope = np.nan, UNDEFINED
    if predicted[truth == 1].min() < predicted[truth == 0].max() and np.ptp(logits) > 0:
        slope, of_slope = _fit(truth, np.stack([logits, constant], axis=1), None, labelled.groups)
    points, observed = smooth(predicted, truth)
    error = float(np.abs(np.interp(predicted, points, observed) - predicted).mean())
    return Recalibration(slope, of_slope, intercept, of_intercept, len(truth), points, observed, error)


def _fit(
    truth: Float[np.ndarray, " image"],
    columns: Float[np.ndarray, "image column"],
    offset: Float[np.ndarray, " image"] | None,
    groups: Int[np.ndarray, " image"] | None,
) -> tuple[float, Interval]:
    """The first coefficient of a logistic regression, with its interval.

    With groups the covariance is the sandwich of scores summed over groups (Liang and Zeger 1986), times
    G / (G - 1) (n - 1) / (n - columns) for G groups, as Stata and statsmodels have it.

    Returns:
        The coefficient and its bounds; no bounds for a single group.
    """
    from scipy.optimize import minimize

    base = np.zeros(len(truth)) if offset is None else offset
    n, width = columns.shape

    def loss(coefficients: Float[np.ndarray, " column"]) -> tuple[float, Float[np.ndarray, " column"]]:
        scores = base + columns @ coefficients
        return float((np.logaddexp(0, scores) - truth * scores).sum()), columns.T @ (expit(scores) - truth)

    def information(coefficients: Float[np.ndarray, " column"]) -> Float[np.ndarray, "column column"]:
        fitted = expit(base + columns @ coefficients)
        found: Float[np.ndarray, "column column"] = columns.T @ (columns * (fitted * (1 - fitted))[:, None])
        return found

    # Newton's steps alone, or iteratively reweighted least squares, overshoot for probabilities close to 0 and 1.
    start = np.zeros(width)
    found = minimize(loss, start, jac=True, hess=information, method="trust-exact", options={"gtol": 1e-8}).x
    covariance = np.linalg.pinv(information(found), hermitian=True)
    if groups is not None:
        if (units := len(np.unique(groups))) == 1:
            return float(found[0]), UNDEFINED
        scores = columns * (truth - expit(base + columns @ found))[:, None]
        sums = np.stack([np.bincount(groups, column) for column in scores.T])
        covariance = covariance @ sums @ sums.T @ covariance * units / (units - 1) * (n - 1) / (n - width)
    half = Z * float(np.sqrt(covariance[0, 0]))
    return float(found[0]), Interval(float(found[0]) - half, float(found[0]) + half)


def smooth(
    predicted: Float[np.ndarray, " image"], truth: Float[np.ndarray, " image"]
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """The observed frequency as a smooth function of the probability: local linear regression (Cleveland 1979).

    Args:
        predicted: probability of each image, 0 to 1.
        truth: outcome of each image, 0 or 1.

    Returns:
        Up to ``POINTS`` different probabilities in ascending order, and the frequency at each of them, 0 to 1.

    Example:
        >>> points, observed = smooth(np.repeat([0.2, 0.8], 5), np.array([0.0, 0, 0, 0, 1, 0, 1, 1, 1, 1]))
        >>> points, observed.round(2)
        (array([0.2, 0.8]), array([0.2, 0.8]))
    """
    from statsmodels.nonparametric.smoothers_lowess import lowess

    points = np.unique(predicted)
    points = points[np.unique(np.linspace(0, len(points) - 1, POINTS).round().astype(np.int64))]
    with warnings.catch_warnings():  # windows of images that share one probability have no slope; these are averaged
        warnings.simplefilter("ignore", RuntimeWarning)
        observed = lowess(truth, predicted, frac=0.75, it=0, xvals=points)
    for i in np.flatnonzero(~np.isfinite(observed)):
        observed[i] = truth[predicted == points[i]].mean()
    return points, np.clip(observed, 0, 1)
