"""The points of a ROC curve, and the interval of the area under it and of the mean of several.

Not here: the area itself (``definitions``).
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq
from scipy.special import stdtrit

from raylight.evaluation.intervals import UNDEFINED, Interval, Z, independent_groups, unit_numbers

PRIOR_RATIO, PRIOR_IMAGES = 1.25, 7
"""Prior ratio of an AUROC's variance to Hanley and McNeil's, and its weight in images: the values with the best coverage over
three distributions of scores (``experiments/coverage``)."""


def auroc_interval(
    labels: Int[np.ndarray, " image"],
    scores: Float[np.ndarray, "image ranked"],
    classes: Sequence[int],
    groups: Int[np.ndarray, " image"] | None,
) -> tuple[Interval, str]:
    """The score interval of an AUROC, or of the mean of one-vs-rest AUROCs.

    It holds all true areas t with |area - t| <= z se(t), as in Newcombe's method 5 (2006), which has a width at 1, too. There
    se(t) is Hanley and McNeil's; here it is scaled by the ratio of DeLong's variance to Hanley and McNeil's at the observed
    area. A small ratio is shrunk towards ``PRIOR_RATIO``, the more so the fewer images are misranked, since DeLong's variance
    is based on those alone. DeLong's own interval, on the logit scale, ignores the error of its variance: with 20 positives
    and an area above 0.9 its coverage is 0.81 to 0.93 instead of 0.95.

    Args:
        labels: class number of each image.
        scores: a column for each class in ``classes``; higher means more likely.
        classes: class numbers to rank against the rest; with two classes, only the positive one.
        groups: group number of each image; ``None`` if images are independent.

    Returns:
        Bounds between 0 and 1, NaN where a class or the rest of one has no image; and the name of the method.

    Example:
        >>> labels, scores = np.repeat([0, 1], 4), np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])
        >>> interval, method = auroc_interval(labels, scores[:, None], classes=[1], groups=None)
        >>> [round(bound, 3) for bound in interval], method
        ([0.474, 0.995], 'score')
    """
    units = unit_numbers(groups, len(labels))
    sides = [(labels == k, labels != k) for k in classes]
    if not all(one.any() and rest.any() for one, rest in sides):
        return UNDEFINED, "not defined"
    areas, variance = _delong(labels, scores, classes, units)
    counts = [[independent_groups(units[side]) for side in both] for both in sides]
    area, k = float(np.mean(areas)), len(classes)
    # Near 0 and 1 both variances vanish, and what remains of their ratio is the prior.
    inner = np.clip(areas, 1e-3, 1 - 1e-3)
    expected = sum(_hanley_mcneil(each, *n) for each, n in zip(inner, counts, strict=True)) / k**2
    ratio = min(variance / expected, 10.0)
    rarer = min(counts[0]) if k == 1 else sum(positives for positives, _ in counts)
    informative = rarer * 4 * area * (1 - area)
    ratio = max(ratio, (informative * ratio + PRIOR_IMAGES * PRIOR_RATIO) / (informative + PRIOR_IMAGES))
    z = Z if groups is None else stdtrit(max(int(units.max()) + 1 - len(np.unique(labels)), 1), 0.975)

    def distance(true: float) -> float:
        expected = sum(_hanley_mcneil(true, *n) for n in counts) / k**2
        return float((area - true) ** 2 - z**2 * ratio * expected)

    low = 0.0 if area <= 0 else float(brentq(distance, 0, min(area, 1 - 1e-9)))
    high = 1.0 if area >= 1 else float(brentq(distance, max(area, 1e-9), 1))
    return Interval(low, high), "score"


def at_each_threshold(
    scores: Float[np.ndarray, " image"], truth: Bool[np.ndarray, " image"]
) -> tuple[Float[np.ndarray, " point"], Float[np.ndarray, " point"], Float[np.ndarray, " point"]]:
    """The points of a ROC and of a precision-recall curve, from the highest threshold to the lowest.

    Args:
        scores: of one class.
        truth: whether each image is of it; some are, and some aren't.

    Returns:
        Recall, false positive rate and precision. The first point, above all scores, has the precision of the second.

    Example:
        >>> at_each_threshold(np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, True, False, False]))
        (array([0. , 0.5, 1. , 1. ]), array([0. , 0. , 0.5, 1. ]), array([1.        , 1.        , 0.66666667, 0.5       ]))
    """
    order = np.argsort(-scores, kind="stable")
    last_of_tie = np.append(np.diff(scores[order]) != 0, True)
    hits = np.cumsum(truth[order])[last_of_tie]
    chosen = np.flatnonzero(last_of_tie) + 1
    recall = np.append(0, hits / hits[-1])
    false_positive_rate = np.append(0, (chosen - hits) / (chosen[-1] - hits[-1]))
    return recall, false_positive_rate, np.append(hits[0] / chosen[0], hits / chosen)


def midranks(values: Float[np.ndarray, " image"]) -> Float[np.ndarray, " image"]:
    """Ranks from 1, equal values sharing the mean of theirs.

    Args:
        values: without NaN.

    Returns:
        The rank of each.

    Example:
        >>> midranks(np.array([0.3, 0.1, 0.3, 0.2]))
        array([3.5, 1. , 3.5, 2. ])
    """
    ordered = np.sort(values)
    ranks: Float[np.ndarray, " image"] = ordered.searchsorted(values) + ordered.searchsorted(values, side="right") + 1
    return ranks / 2


def _delong(
    labels: Int[np.ndarray, " image"],
    scores: Float[np.ndarray, "image ranked"],
    classes: Sequence[int],
    units: Int[np.ndarray, " image"],
) -> tuple[list[float], float]:
    """The area of each class and DeLong's variance of their mean.

    An image's influence on the mean area is its placement among the images of other classes, found by sorting (DeLong
    1988; Sun and Xu 2014). The variance is taken within classes, after summing over groups (Obuchowski 1997).

    Returns:
        The areas, and the variance of their mean.
    """
    areas, influence = [], np.zeros(len(labels))
    for column, k in enumerate(classes):
        positive = labels == k
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        score = scores[:, column]
        placement = midranks(score)
        placement[positive] = (placement[positive] - midranks(score[positive])) / n_negative
        placement[~positive] = 1 - (placement[~positive] - midranks(score[~positive])) / n_positive
        areas.append(float(placement[positive].mean()))
        influence += (placement - areas[-1]) / np.where(positive, n_positive, n_negative) / len(classes)
    for k in np.unique(labels):
        members = labels == k
        clusters = len(np.unique(units[members]))
        if clusters > 1:
            spread = influence[members] - influence[members].mean()
            influence[members] = spread * np.sqrt(clusters / (clusters - 1))
    return areas, float((np.bincount(units, weights=influence) ** 2).sum())


def _hanley_mcneil(area: float, n_positive: float, n_negative: float) -> float:
    """The variance of an AUROC, from the area alone (Hanley and McNeil 1982, in Newcombe's form)."""
    mean_others = (n_positive + n_negative) / 2 - 1
    variance = area * (1 - area) / (n_positive * n_negative)
    return variance * (1 + mean_others * ((1 - area) / (2 - area) + area / (1 + area)))
