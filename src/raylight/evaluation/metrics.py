"""Every metric of a set of predictions, each with its 95 % interval and the number of images it rests on.

Covers which metric takes which interval:

====================================  ==================================================================
accuracy, recall, specificity,        Wilson's score interval of a proportion
precision (two classes)
f1 (two classes)                      Wilson's, of tp / (tp + fp + fn), of which F1 is a function
balanced_accuracy; recall (more)      Wilson's for each class, combined
auroc                                 a score interval with DeLong's variance
ece                                   bounds that allow for chance alone making it positive
average_precision, mcc, brier;        bootstrap (BCa)
precision, specificity, f1 (more)
====================================  ==================================================================

The last two rows are widened by the mistakes that a sample of this size could have failed to show
(``unseen``). Where images come in groups (patients), all of them count groups, not images. Leaves out what
the metrics mean (``training.metrics``, whose values these are), the formulas (``intervals``) and the engine
(``resampling``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int

from raylight.config.metric_names import METRICS
from raylight.evaluation import intervals
from raylight.evaluation.bootstrap import WeightedMetrics, bootstrap, calibration_bins, left_out_weights, n_units
from raylight.evaluation.caveats import caveat_of
from raylight.evaluation.intervals import NOWHERE, Interval
from raylight.evaluation.predictions import UNKNOWN, Predictions, Verdicts
from raylight.evaluation.zero_events import widen, with_unseen


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % interval.

    Attributes:
        value: the metric; NaN where it isn't defined, as are the bounds then.
        low: lower bound.
        high: upper bound.
        n: images it rests on: for recall the positives, for specificity the negatives, for precision the
            predicted positives (two classes), else all.
        method: of the interval, in words.
        caveat: why the interval may not hold in 95 % of samples, one of ``CAVEATS``; ``None`` where it does.
    """

    value: float
    low: float
    high: float
    n: int
    method: str
    caveat: str | None = None


def evaluate(
    predictions: Predictions, threshold: float | None = None, n_resamples: int = 2000, seed: int = 0
) -> dict[str, Estimate]:
    """Every metric with its interval.

    Args:
        predictions: of one split; images of unknown class are left aside.
        threshold: on the positive class's probability, with two classes; ``None`` stands for 0.5.
        n_resamples: bootstrap resamples.
        seed: of the bootstrap; the same seed gives the same intervals.

    Returns:
        An estimate for each name in ``METRICS``, in that order.

    Raises:
        ValueError: no image of known class.
    """
    verdicts = predictions.verdicts(threshold)
    metrics = WeightedMetrics(verdicts)
    values = {name: float(value[0]) for name, value in metrics(np.ones((1, len(verdicts.labels)))).items()}
    unseen = with_unseen(verdicts)
    estimates = by_formula(verdicts, values, unseen)
    resampled = bootstrap([metrics], len(verdicts.labels), verdicts.groups, n_resamples, seed)[0]
    left_out = metrics(left_out_weights(verdicts.labels, verdicts.groups))
    units = n_units(verdicts.groups, len(verdicts.labels))
    for name in METRICS:
        if name not in estimates:
            sampled = intervals.bca(values[name], resampled[name], left_out[name], units)
            drawn = resampled[name][np.isfinite(resampled[name])]
            frozen = not len(drawn) or np.ptp(drawn) < 1e-6
            bounds = widen(name, values[name], sampled, with_unseen(verdicts, every_class=True) if frozen else unseen)
            estimates[name] = _estimate(verdicts, values[name], bounds, "bootstrap")
    return {name: replace(estimates[name], caveat=_caveat(name, estimates[name], verdicts)) for name in METRICS}


def _caveat(name: str, estimate: Estimate, verdicts: Verdicts) -> str | None:
    return None if np.isnan(estimate.value) else caveat_of(name, verdicts)


def confusion_matrix(
    predictions: Predictions, threshold: float | None = None
) -> Int[np.ndarray, "true_class predicted_class"]:
    """How many images of each class were given each class, in the order of ``class_names``."""
    n_classes = len(predictions.class_names)
    known = predictions.labels != UNKNOWN
    cells = predictions.labels[known] * n_classes + predictions.predicted(threshold)[known]
    return np.bincount(cells, minlength=n_classes**2).reshape(n_classes, n_classes)


def as_json(estimates: Mapping[str, Estimate], prefix: str = "") -> dict[str, dict[str, float | int | str | None]]:
    """What ``metrics.json`` holds: ``{"test/accuracy": {"value", "low", "high", "n"}}``, NaN as ``None``.

    An interval with a caveat has it as ``"caveat"``, by its word in ``CAVEATS``.
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


def _estimate(verdicts: Verdicts, value: float, bounds: Interval, method: str, n: int | None = None) -> Estimate:
    if np.isnan(value):
        bounds, method = NOWHERE, "not defined"
    elif verdicts.groups is not None:
        method += ", of groups"
    return Estimate(value, *bounds, len(verdicts.labels) if n is None else n, method)


def by_formula(
    verdicts: Verdicts, values: Mapping[str, float], unseen: Sequence[Mapping[str, float]]
) -> dict[str, Estimate]:
    """The metrics whose interval needs no resampling.

    Args:
        verdicts: the predictions.
        values: of every metric.
        unseen: from ``with_unseen``.
    """
    correct = verdicts.predicted == verdicts.labels

    def proportion(among: Bool[np.ndarray, " image"]) -> Interval:
        groups = None if verdicts.groups is None else verdicts.groups[among]
        return intervals.proportion(correct[among], groups)

    def share(name: str, among: Bool[np.ndarray, " image"]) -> Estimate:
        return _estimate(verdicts, values[name], proportion(among), "Wilson", int(among.sum()))

    of_class = [verdicts.labels == k for k in range(verdicts.n_classes)]
    occurring = [among for among in of_class if among.any()]
    recalls = [float(correct[among].mean()) for among in occurring]
    if verdicts.n_classes == 2:
        bounds, method = intervals.mean_of(recalls, [proportion(among) for among in occurring]), "Wilson, combined"
    else:
        sizes = [_effective_size(correct, among, verdicts.groups) for among in occurring]
        bounds, method = intervals.mean_recall(np.array(recalls), np.array(sizes)), "Wilson, of the mean"
    balanced = _estimate(verdicts, values["balanced_accuracy"], bounds, method)
    calibration = widen("ece", values["ece"], _calibration_error(verdicts), unseen)
    estimates = {
        "accuracy": share("accuracy", np.ones(len(correct), bool)),
        "auroc": _estimate(verdicts, values["auroc"], *_auroc(verdicts)),
        "ece": _estimate(verdicts, values["ece"], calibration, "conservative bounds"),
    }
    if verdicts.n_classes > 2:
        # The value counts a class that is predicted but doesn't occur as recall 0, which no proportion is
        # about.
        matches = np.isin(verdicts.predicted, verdicts.labels).all()
        return estimates | ({"balanced_accuracy": balanced, "recall": balanced} if matches else {})
    positive, negative = of_class[verdicts.positive], of_class[1 - verdicts.positive]
    chosen = verdicts.predicted == verdicts.positive
    overlap = Interval(*map(intervals.f1_from_overlap, proportion(positive | chosen)))
    return estimates | {
        "balanced_accuracy": balanced,
        "precision": share("precision", chosen),
        "recall": share("recall", positive),
        "specificity": share("specificity", negative),
        "f1": _estimate(verdicts, values["f1"], overlap, "Wilson, of the overlap"),
    }


def _effective_size(
    correct: Bool[np.ndarray, " image"], among: Bool[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None
) -> float:
    return intervals.effective_size(correct[among], None if groups is None else groups[among])


def _auroc(verdicts: Verdicts) -> tuple[Interval, str]:
    classes = [verdicts.positive] if verdicts.n_classes == 2 else np.unique(verdicts.labels).tolist()
    return intervals.auroc(verdicts.labels, verdicts.probabilities[:, classes], classes, verdicts.groups)


def _calibration_error(verdicts: Verdicts) -> Interval:
    confidence, truth = verdicts.claims()
    claimed_variance = confidence * (1 - confidence)
    return intervals.calibration_error(
        truth - confidence, claimed_variance, calibration_bins(confidence), verdicts.groups
    )
