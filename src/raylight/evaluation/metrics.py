"""All metrics of a set of predictions, each with its 95 % interval and sample size.

The interval of each metric:

====================================  ==================================================================
accuracy, recall, specificity,        Wilson's score interval of a proportion
precision (two classes)
f1 (two classes)                      Wilson's, of tp / (tp + fp + fn), of which F1 is a function
balanced_accuracy; recall (more)      Wilson's, of the mean over classes
auroc                                 a score interval with DeLong's variance
ece                                   conservative bounds: chance alone makes it positive
average_precision, mcc, brier;        bootstrap (BCa)
precision, specificity, f1 (more);
the user's own
====================================  ==================================================================

The last two rows, but the user's own, are widened for zero events (``zero_events``). If images come in groups (patients), all
intervals allow for that. Not here: what the metrics mean (``definitions``), formulas (``intervals``), the bootstrap
(``bootstrap``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from raylight.config.rules.metric_names import METRICS
from raylight.evaluation import intervals
from raylight.evaluation.auroc import auroc_interval
from raylight.evaluation.bootstrap import bca, bootstrap, left_out_weights, n_units, resampling_weights
from raylight.evaluation.caveats import caveat_of
from raylight.evaluation.definitions.own import OwnMetrics
from raylight.evaluation.definitions.weighted import WeightedMetrics, calibration_bins
from raylight.evaluation.intervals import UNDEFINED, Interval
from raylight.evaluation.predictions import UNKNOWN, LabelledPredictions, Predictions
from raylight.evaluation.zero_events import widen, with_added_events

OWN_RESAMPLES = 1000
"""Resamples for a user's metrics, each of which is a call."""


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval.

    Attributes:
        value: the metric; NaN where it isn't defined, as are the bounds then.
        low: lower bound.
        high: upper bound.
        n: sample size: for recall the positives, for specificity the negatives, for precision the predicted positives
            (two classes), else all images.
        method: of the interval, for display.
        caveat: why the coverage may not be 95 %, one of ``CAVEATS``; ``None`` for no caveat.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    caveat: str | None = None


def evaluate(
    predictions: Predictions,
    threshold: float | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
    own: OwnMetrics | None = None,
) -> dict[str, Estimate]:
    """Computes all metrics with their intervals.

    Args:
        predictions: of one split; unlabelled images are ignored.
        threshold: on the positive class's probability, with two classes; ``None`` stands for 0.5.
        n_resamples: bootstrap resamples.
        seed: of the bootstrap; the same seed gives the same intervals.
        own: further metrics.

    Returns:
        An estimate for each name in ``METRICS``, in that order, and for each of ``own``.

    Raises:
        ValueError: no labelled image.
    """
    labelled = predictions.labelled(threshold)
    metrics = WeightedMetrics(labelled)
    values = {name: float(value[0]) for name, value in metrics(np.ones((1, len(labelled.labels)))).items()}
    extended = with_added_events(labelled)
    estimates = by_formula(labelled, values, extended)
    resampled = bootstrap([metrics], len(labelled.labels), labelled.groups, n_resamples, seed)[0]
    left_out = metrics(left_out_weights(labelled.labels, labelled.groups))
    for name in METRICS:
        if name not in estimates:
            bounds = by_resampling(name, labelled, values[name], resampled[name], left_out[name], extended)
            estimates[name] = _estimate(labelled, values[name], bounds, "bootstrap")
    found = {name: replace(estimates[name], caveat=_caveat(name, estimates[name], labelled)) for name in METRICS}
    return found | (_own_estimates(labelled, own, seed) if own else {})


def _own_estimates(labelled: LabelledPredictions, own: OwnMetrics, seed: int) -> dict[str, Estimate]:
    """A user's metrics, of which only the values are known: bootstrap intervals."""
    n = len(labelled.labels)
    chunks = [
        own.resampled(labelled, weights) for weights in resampling_weights(n, labelled.groups, OWN_RESAMPLES, seed)
    ]
    left_out = own.resampled(labelled, left_out_weights(labelled.labels, labelled.groups))
    found = {}
    for name, value in own.values(labelled.probabilities, labelled.labels).items():
        drawn = np.concatenate([chunk[name] for chunk in chunks])
        low, high = bca(value, drawn, left_out[name], n_units(labelled.groups, n))
        least, most = own.range_of(name)
        estimate = _estimate(labelled, value, Interval(max(low, least), min(high, most)), "bootstrap")
        alike = not np.isnan(value) and estimate.high - estimate.low < 1e-9
        found[name] = replace(estimate, caveat="resamples_alike" if alike else _caveat(name, estimate, labelled))
    return found


def _caveat(name: str, estimate: Estimate, labelled: LabelledPredictions) -> str | None:
    return None if np.isnan(estimate.value) else caveat_of(name, labelled)


def confusion_matrix(
    predictions: Predictions, threshold: float | None = None
) -> Int[np.ndarray, "true_class predicted_class"]:
    """Counts images by true and predicted class.

    Args:
        predictions: of one split; unlabelled images are ignored.
        threshold: decision threshold of two classes, 0 to 1; ``None`` stands for 0.5.

    Returns:
        Counts, in the order of ``class_names``.

    Example:
        >>> probabilities, labels = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8]]), np.array([0, 0, 1])
        >>> confusion_matrix(Predictions("abc", ("test",) * 3, labels, probabilities, ("cat", "dog"), "dog"))
        array([[1, 1],
               [0, 1]])
    """
    n_classes = len(predictions.class_names)
    known = predictions.labels != UNKNOWN
    cells = predictions.labels[known] * n_classes + predictions.predicted(threshold)[known]
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def as_json(estimates: Mapping[str, Estimate], prefix: str = "") -> dict[str, dict[str, float | int | str | None]]:
    """The content of ``metrics.json``.

    Args:
        estimates: by name of the metric.
        prefix: put before each name, such as ``test/``.

    Returns:
        By name, value, low, high and n, NaN as ``None``; an estimate with a caveat also has ``caveat``, its key in ``CAVEATS``.

    Example:
        >>> as_json({"auroc": Estimate(0.9, 0.8, 0.95, 40, "score")}, "test/")
        {'test/auroc': {'value': 0.9, 'low': 0.8, 'high': 0.95, 'n': 40}}
    """

    def number(value: float) -> float | None:
        return None if np.isnan(value) else value

    return {
        prefix + name: {
            "value": number(estimate.value),
            "low": number(estimate.low),
            "high": number(estimate.high),
            "n": estimate.n,
            **({"caveat": estimate.caveat} if estimate.caveat else {}),
        }
        for name, estimate in estimates.items()
    }


def from_json(metrics: Mapping[str, Any], prefix: str = "") -> dict[str, Estimate]:
    """Reads what ``as_json`` wrote.

    Args:
        metrics: the content of ``metrics.json``.
        prefix: of the metrics to read, such as ``test/``.

    Returns:
        Estimates by name without the prefix; their method isn't stored, and empty.
    """

    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    return {
        name.removeprefix(prefix): Estimate(
            *(number(facts["value"]), number(facts["low"]), number(facts["high"])),
            *(int(facts["n"]), "", facts.get("caveat")),
        )
        for name, facts in metrics.items()
        if name.startswith(prefix)
    }


def _estimate(
    labelled: LabelledPredictions, value: float, bounds: Interval, method: str, n: int | None = None
) -> Estimate:
    if np.isnan(value):
        bounds, method = UNDEFINED, "not defined"
    elif labelled.groups is not None:
        method += ", of groups"
    return Estimate(value, *bounds, len(labelled.labels) if n is None else n, method)


def by_formula(
    labelled: LabelledPredictions, values: Mapping[str, float], extended: Sequence[Mapping[str, float]]
) -> dict[str, Estimate]:
    """The metrics whose intervals need no resampling.

    Args:
        labelled: the predictions.
        values: of all metrics.
        extended: the metrics from ``with_added_events``.

    Returns:
        Estimates by name, of some of ``METRICS``.
    """
    correct = labelled.predicted == labelled.labels

    def proportion(among: Bool[np.ndarray, " image"]) -> Interval:
        return intervals.proportion(correct, labelled.groups, among)

    def share(name: str, among: Bool[np.ndarray, " image"]) -> Estimate:
        return _estimate(labelled, values[name], proportion(among), "Wilson", int(among.sum()))

    of_class = [labelled.labels == k for k in range(labelled.n_classes)]
    occurring = [among for among in of_class if among.any()]
    recalls = [float(correct[among].mean()) for among in occurring]
    sizes = [_effective_size(correct, among, labelled.groups) for among in occurring]
    mean = intervals.balanced_recall if labelled.n_classes == 2 else intervals.mean_recall
    bounds = mean(np.array(recalls), np.array(sizes))
    balanced = _estimate(labelled, values["balanced_accuracy"], bounds, "Wilson, of the mean")
    calibration = widen("ece", values["ece"], _calibration_error(labelled), extended)
    estimates = {
        "accuracy": share("accuracy", np.ones(len(correct), bool)),
        "auroc": _estimate(labelled, values["auroc"], *_auroc(labelled)),
        "ece": _estimate(labelled, values["ece"], calibration, "conservative bounds"),
    }
    if labelled.n_classes > 2:
        # A class that is predicted but doesn't occur counts as recall 0, which isn't a proportion of any images.
        matches = np.isin(labelled.predicted, labelled.labels).all()
        return estimates | ({"balanced_accuracy": balanced, "recall": balanced} if matches else {})
    positive, negative = of_class[labelled.positive], of_class[1 - labelled.positive]
    chosen = labelled.predicted == labelled.positive
    overlap = Interval(*map(intervals.f1_from_overlap, proportion(positive | chosen)))
    return estimates | {
        "balanced_accuracy": balanced,
        "precision": share("precision", chosen),
        "recall": share("recall", positive),
        "specificity": share("specificity", negative),
        "f1": _estimate(labelled, values["f1"], overlap, "Wilson, of the overlap"),
    }


def by_resampling(
    name: str,
    labelled: LabelledPredictions,
    value: float,
    resampled: Float[np.ndarray, " resample"],
    left_out: Float[np.ndarray, " left_out"],
    extended: Sequence[Mapping[str, float]],
) -> Interval:
    """The bootstrap interval of a metric, widened for zero events.

    Args:
        name: of the metric.
        labelled: the predictions.
        value: of the metric.
        resampled: the metric on bootstrap resamples.
        left_out: the metric with ``left_out_weights``.
        extended: the metrics from ``with_added_events``.

    Returns:
        Bounds within the metric's range; NaN where the value is.
    """
    sampled = bca(value, resampled, left_out, n_units(labelled.groups, len(labelled.labels)))
    drawn = resampled[np.isfinite(resampled)]
    if not len(drawn) or np.ptp(drawn) < 1e-6:
        extended = with_added_events(labelled, every_class=True)
    return widen(name, value, sampled, extended)


def _effective_size(
    correct: Bool[np.ndarray, " image"], among: Bool[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None
) -> float:
    return intervals.effective_size(correct[among], None if groups is None else groups[among])


def _auroc(labelled: LabelledPredictions) -> tuple[Interval, str]:
    classes = [labelled.positive] if labelled.n_classes == 2 else np.unique(labelled.labels).tolist()
    return auroc_interval(labelled.labels, labelled.probabilities[:, classes], classes, labelled.groups)


def _calibration_error(labelled: LabelledPredictions) -> Interval:
    confidence, truth = labelled.confidences()
    variance, bins = confidence * (1 - confidence), calibration_bins(confidence)
    return intervals.calibration_error(truth - confidence, variance, bins, labelled.groups)
