"""What resampling can't know: the mistakes that a sample happened not to show.

Covers widening a bootstrap interval where a class has no mistake (or no success) in the sample, since
resampling can't bring forth what isn't there: the bootstrap of a perfect result has no width. Leaves out the
bootstrap itself.

Wilson's lower bound for n of n is n / (n + z^2): the share when z^2 mistakes join n successes. The same z^2
images join here, shared out over the classes without a mistake: images that look to the model like the
average image of another class. How far the metric moves counts as uncertainty beside that of the bootstrap,
and the two add up as independent ones do (``intervals.mean_of``). Likewise z^2 successes for classes that
have none.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from raylight.evaluation.bootstrap import WeightedMetrics
from raylight.evaluation.intervals import NOWHERE, Interval, Z, independent_groups
from raylight.evaluation.predictions import Verdicts

RANGES = {"mcc": (-1.0, 1.0), "brier": (0.0, 2.0)}
"""Of the metrics that don't lie between 0 and 1."""


def widen(name: str, value: float, interval: Interval, unseen: Sequence[Mapping[str, float]]) -> Interval:
    """Widen the interval of a metric by how far the unseen would move it.

    Args:
        name: of the metric.
        value: of the metric on the sample.
        interval: around it.
        unseen: from ``with_unseen``.
    """
    if np.isnan(value):
        return NOWHERE
    moves = [values[name] - value for values in unseen]
    least, most = RANGES.get(name, (0.0, 1.0))
    low = value - np.hypot(value - interval.low, max([0.0, *(-move for move in moves)]))
    high = value + np.hypot(interval.high - value, max([0.0, *moves]))
    return Interval(float(max(low, least)), float(min(high, most)))


def with_unseen(verdicts: Verdicts, every_class: bool = False) -> list[dict[str, float]]:
    """All metrics of the sample with unseen mistakes added, and with unseen successes.

    Args:
        verdicts: the sample.
        every_class: all classes count as without mistakes and successes: for a metric on which all resamples
            agree, a perfect average precision at a bad threshold for instance.

    Returns:
        None, one or two sets of metrics: none where each class has both mistakes and successes.
    """
    both = [_with_added(verdicts, mistaken, every_class) for mistaken in (True, False)]
    return [values for values in both if values is not None]


def with_disagreements(first: Verdicts, second: Verdicts) -> list[dict[str, float]]:
    """Every metric's difference, second minus first, with z^2 more images that only one of the models gets right.

    As many images that only the first one gets right, shared out over the classes, and as many that only the second one
    does: the bound that Tango's interval has where two models never disagree.

    Args:
        first: one model on some images.
        second: the other on the same ones.
    """
    classes, counts = np.unique(first.labels, return_counts=True)
    n = len(first.labels)
    weights = np.r_[np.ones(n), Z**2 * n / independent_groups(first.groups, n) * counts / n][None, :]
    right, wrong = classes, np.roll(classes, -1) if len(classes) > 1 else (classes + 1) % first.n_classes

    def added(verdicts: Verdicts, predicted: np.ndarray) -> dict[str, np.ndarray]:
        extended = Verdicts(
            np.r_[verdicts.labels, classes],
            np.r_[verdicts.probabilities, np.eye(verdicts.n_classes)[predicted]],
            np.r_[verdicts.predicted, predicted],
            verdicts.positive,
            None,
        )
        return WeightedMetrics(extended)(weights)

    pairs = [(added(first, right), added(second, wrong)), (added(first, wrong), added(second, right))]
    return [{name: float(other[name][0] - one[name][0]) for name in one} for one, other in pairs]


def _with_added(verdicts: Verdicts, mistaken: bool, every_class: bool) -> dict[str, float] | None:
    correct = verdicts.predicted == verdicts.labels
    classes = np.unique(verdicts.labels)
    lacking = np.array([every_class or np.all(correct[verdicts.labels == k] == mistaken) for k in classes])
    if not lacking.any():
        return None
    average = np.stack([verdicts.probabilities[verdicts.labels == k].mean(axis=0) for k in classes])
    labels = classes[lacking]
    if mistaken and len(classes) > 1:
        predicted, probabilities = np.roll(classes, -1)[lacking], np.roll(average, -1, axis=0)[lacking]
    else:
        predicted = (labels + 1) % verdicts.n_classes if mistaken else labels
        probabilities = np.eye(verdicts.n_classes)[predicted]
    concerned = np.isin(verdicts.labels, labels)
    n = int(concerned.sum())
    groups = None if verdicts.groups is None else verdicts.groups[concerned]
    shares = np.array([(verdicts.labels == k).sum() for k in labels]) / n
    weights = np.r_[np.ones(len(correct)), Z**2 * n / independent_groups(groups, n) * shares]
    extended = Verdicts(
        np.r_[verdicts.labels, labels],
        np.r_[verdicts.probabilities, probabilities],
        np.r_[verdicts.predicted, predicted],
        verdicts.positive,
        None,
    )
    return {name: float(value[0]) for name, value in WeightedMetrics(extended)(weights[None, :]).items()}
