"""Zero events: bootstrap intervals where a class has no mistake (or no success) in the sample.

The bootstrap of a perfect result has no width, since resampling can't create mistakes. Wilson's lower bound for n of n is
n / (n + z^2): the proportion if z^2 mistakes are added to n successes. Likewise, z^2 mistakes are added here, distributed
over the classes without any; their probabilities are those of an average image of another class. The change of the
metric is combined with the bootstrap's uncertainty as if independent (``intervals.mean_of``). Classes without a
success get z^2 successes. Not here: the bootstrap itself.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.intervals import UNDEFINED, Interval, Z, independent_groups
from raylight.evaluation.predictions import LabelledPredictions

RANGES = {"mcc": (-1.0, 1.0), "brier": (0.0, 2.0)}
"""Ranges of the metrics that aren't between 0 and 1."""


def widen(name: str, value: float, interval: Interval, extended: Sequence[Mapping[str, float]]) -> Interval:
    """Widens the interval of a metric by the change that the added events cause.

    Args:
        name: of the metric.
        value: of the metric on the sample.
        interval: of the metric.
        extended: the metrics from ``with_added_events``.

    Returns:
        Bounds within the metric's range; NaN where the value is.

    Example:
        >>> [round(bound, 2) for bound in widen("brier", 0.1, Interval(0.07, 0.14), [{"brier": 0.13}])]
        [0.07, 0.15]
    """
    if np.isnan(value):
        return UNDEFINED
    moves = [values[name] - value for values in extended]
    least, most = RANGES.get(name, (0.0, 1.0))
    low = value - np.hypot(value - interval.low, max([0.0, *(-move for move in moves)]))
    high = value + np.hypot(interval.high - value, max([0.0, *moves]))
    return Interval(float(max(low, least)), float(min(high, most)))


def with_added_events(labelled: LabelledPredictions, every_class: bool = False) -> list[dict[str, float]]:
    """All metrics of the sample with added mistakes, and with added successes.

    Args:
        labelled: the sample.
        every_class: treat all classes as if they had no mistakes or successes: for a metric that is the same in all
            resamples, such as a perfect average precision at a bad threshold.

    Returns:
        Up to two sets of metrics; none if each class has both mistakes and successes.
    """
    both = [_with_added(labelled, mistaken, every_class) for mistaken in (True, False)]
    return [values for values in both if values is not None]


def with_added_disagreements(first: LabelledPredictions, second: LabelledPredictions) -> list[dict[str, float]]:
    """Every metric's difference, second minus first, with z^2 added images that only one model gets right.

    This corresponds to Tango's interval for two models that never disagree.

    Args:
        first: predictions of one model.
        second: predictions of the other model for the same images, in the same order.

    Returns:
        Two sets of differences: added images that only the first model gets right, and only the second.
    """
    classes, counts = np.unique(first.labels, return_counts=True)
    n = len(first.labels)
    weights = np.r_[np.ones(n), Z**2 * n / independent_groups(first.groups, n) * counts / n][None, :]
    right, wrong = classes, np.roll(classes, -1) if len(classes) > 1 else (classes + 1) % first.n_classes

    def added(labelled: LabelledPredictions, predicted: np.ndarray) -> dict[str, np.ndarray]:
        extended = LabelledPredictions(
            np.r_[labelled.labels, classes],
            np.r_[labelled.probabilities, np.eye(labelled.n_classes)[predicted]],
            np.r_[labelled.predicted, predicted],
            labelled.positive,
            None,
        )
        return WeightedMetrics(extended)(weights)

    pairs = [(added(first, right), added(second, wrong)), (added(first, wrong), added(second, right))]
    return [{name: float(other[name][0] - one[name][0]) for name in one} for one, other in pairs]


def _with_added(labelled: LabelledPredictions, mistaken: bool, every_class: bool) -> dict[str, float] | None:
    correct = labelled.predicted == labelled.labels
    classes = np.unique(labelled.labels)
    lacking = np.array([every_class or np.all(correct[labelled.labels == k] == mistaken) for k in classes])
    if not lacking.any():
        return None
    average = np.stack([labelled.probabilities[labelled.labels == k].mean(axis=0) for k in classes])
    labels = classes[lacking]
    if mistaken and len(classes) > 1:
        predicted, probabilities = np.roll(classes, -1)[lacking], np.roll(average, -1, axis=0)[lacking]
    else:
        predicted = (labels + 1) % labelled.n_classes if mistaken else labels
        probabilities = np.eye(labelled.n_classes)[predicted]
    concerned = np.isin(labelled.labels, labels)
    n = int(concerned.sum())
    groups = None if labelled.groups is None else labelled.groups[concerned]
    shares = np.array([(labelled.labels == k).sum() for k in labels]) / n
    weights = np.r_[np.ones(len(correct)), Z**2 * n / independent_groups(groups, n) * shares]
    extended = LabelledPredictions(
        np.r_[labelled.labels, labels],
        np.r_[labelled.probabilities, probabilities],
        np.r_[labelled.predicted, predicted],
        labelled.positive,
        None,
    )
    return {name: float(value[0]) for name, value in WeightedMetrics(extended)(weights[None, :]).items()}
