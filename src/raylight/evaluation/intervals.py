"""Confidence intervals (95 %) as functions of outcomes.

Wilson for proportions, Tango for paired differences of proportions, a score interval for AUROC; all keep a width where
simpler formulas have none (40 of 40, an AUROC of 1). Several images of one patient count as clustered. Not here: intervals
from resamples (``bootstrap``), and which metric takes which formula (``metrics``).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.optimize import brentq
from scipy.stats import norm, rankdata
from scipy.stats import t as student

Z = float(norm.ppf(0.975))
"""Standard deviations on each side of a 95 % interval."""


class Interval(NamedTuple):
    """Bounds of a 95 % interval; NaN where there is none."""

    low: float
    high: float


UNDEFINED = Interval(float("nan"), float("nan"))


def wilson(successes: float, n: float) -> Interval:
    """The score interval of a proportion (Wilson 1927), which has a width at 0 and n successes, too.

    Args:
        successes: 0 to n.
        n: number of trials; may be an effective sample size.

    Example:
        >>> [round(bound, 3) for bound in wilson(40, 40)]
        [0.912, 1.0]
    """
    from statsmodels.stats.proportion import proportion_confint

    if n <= 0:
        return UNDEFINED
    low, high = proportion_confint(successes, n, method="wilson")
    # Rounding leaves 1e-17 of bounds that are 0 and 1.
    return Interval(0.0 if successes == 0 else float(low), 1.0 if successes == n else float(high))


def tango(gains: float, losses: float, n: float) -> Interval:
    """The score interval of a paired difference of proportions (Tango 1998, Stat. Med. 17:891).

    It holds all differences d that the score test doesn't reject: (gains - losses - n d)^2 <= z^2 n v(d), where v is the
    variance of the net gain per image under the maximum-likelihood proportions with difference d. At d = 0 the test is
    McNemar's without continuity correction; without any disagreement the interval still has a width.

    Args:
        gains: images that only the second model gets right; may be effective numbers.
        losses: images that only the first model gets right.
        n: number of all images.

    Example:
        >>> [round(bound, 3) for bound in tango(2, 12, 50)]
        [-0.345, -0.061]
    """
    if n <= 0:
        return UNDEFINED

    def distance(difference: float) -> float:
        b = (2 * n - gains + losses) * difference - gains - losses
        c = -losses * difference * (1 - difference)
        fewest_losses = (np.sqrt(max(b**2 - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = 2 * fewest_losses + difference * (1 - difference)
        return float((gains - losses - n * difference) ** 2 - Z**2 * n * max(variance, 0.0))

    # Slightly beside the value, where the distance is 0 instead of negative when no image tells the models apart.
    value, epsilon = (gains - losses) / n, 1e-9
    low = -1.0 if losses >= n else float(brentq(distance, -1, value - epsilon))
    high = 1.0 if gains >= n else float(brentq(distance, value + epsilon, 1))
    return Interval(low, high)


def proportion(successes: Bool[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None) -> Interval:
    """Wilson's interval of a proportion, with the effective sample size if images are grouped.

    Args:
        successes: the outcomes.
        groups: group number of each image; ``None`` if images are independent.

    Example:
        >>> right = np.array([True] * 9 + [False])
        >>> [round(bound, 2) for bound in proportion(right, groups=None)]
        [0.6, 0.98]
        >>> [round(bound, 2) for bound in proportion(right, groups=np.arange(10) // 2)]
        [0.46, 0.99]
    """
    n = effective_size(successes, groups)
    return wilson(float(successes.mean()) * n, n) if n > 0 else UNDEFINED


def effective_size(successes: Bool[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None) -> float:
    """The effective sample size of a proportion: how many independent images give the same variance.

    The number of images divided by the design effect (Kish 1965), reduced where few groups estimate the variance poorly
    (Korn and Graubard 1998). At most the number of images, at least ``independent_groups``; the latter if all outcomes
    are the same, since agreement within groups is then unknown.

    Args:
        successes: the outcomes.
        groups: group number of each image; ``None`` if images are independent.
    """
    n = len(successes)
    if groups is None or n == 0:
        return float(n)
    _, position, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    fewest = independent_groups(groups)
    share = successes.mean()
    if share in (0, 1) or len(sizes) < 2:
        return fewest
    excess = np.bincount(position, weights=successes - share)
    variance = len(sizes) / (len(sizes) - 1) * (excess**2).sum() / n**2
    design_effect = variance / (share * (1 - share) / n)
    few = (Z / student.ppf(0.975, len(sizes) - 1)) ** 2
    return float(np.clip(few * n / max(design_effect, 1e-9), fewest, n))


def independent_groups(groups: Int[np.ndarray, " image"] | None, n: int | None = None) -> float:
    """The effective sample size if images of a group always agree: (sum of sizes)^2 / sum of squared sizes (Kish 1965).

    Args:
        groups: group number of each image; ``None`` for ``n`` independent images.
        n: number of images, needed if ``groups`` is ``None``.

    Example:
        >>> independent_groups(np.array([0, 0, 1, 1])), independent_groups(np.array([0, 0, 0, 1]))
        (2.0, 1.6)
    """
    if groups is None:
        return float(n or 0)
    sizes = np.unique(groups, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def mean_of(values: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """The interval of a mean of independent estimates, from their intervals (MOVER; Zou and Donner 2008).

    The distances to the bounds add up like standard errors, separately on each side, so that the interval keeps the
    asymmetry of its parts.

    Args:
        values: the estimates.
        intervals: of each of them.

    Example:
        >>> [round(bound, 3) for bound in mean_of([0.8, 0.9], [wilson(8, 10), wilson(18, 20)])]
        [0.665, 0.93]
    """
    centre = float(np.mean(values))
    below = np.sqrt(sum((value - bound.low) ** 2 for value, bound in zip(values, intervals, strict=True)))
    above = np.sqrt(sum((bound.high - value) ** 2 for value, bound in zip(values, intervals, strict=True)))
    return Interval(float(centre - below / len(values)), float(centre + above / len(values)))


def mean_recall(recalls: Float[np.ndarray, " class"], sizes: Float[np.ndarray, " class"]) -> Interval:
    """The interval of the mean recall over many classes with few images each: Wilson's, with an effective sample size.

    The recall of a class with one image is 0 or 1, and has no variance of its own. So each recall is shrunk towards the mean
    by two additional images, and n is the number of images that gives the mean the resulting variance. If the mean is 0 or
    1, n is that of classes of equal recall.

    Args:
        recalls: of each class that occurs.
        sizes: number of images per class; effective sizes if images are grouped.

    Example:
        >>> [round(bound, 3) for bound in mean_recall(np.array([1.0, 0.5, 1.0]), np.array([2.0, 2.0, 2.0]))]
        [0.455, 0.968]
    """
    mean, k = float(recalls.mean()), len(recalls)
    shrunk = (sizes * recalls + 2 * mean) / (sizes + 2)
    variance = float((shrunk * (1 - shrunk) / sizes).sum()) / k**2
    n = mean * (1 - mean) / variance if variance > 1e-12 else k**2 / float((1 / sizes).sum())
    return wilson(mean * n, n)


def balanced_recall(recalls: Float[np.ndarray, " class"], sizes: Float[np.ndarray, " class"]) -> Interval:
    """The interval of the mean of two recalls: the wider bounds of ``mean_of`` and ``mean_recall``.

    Each alone is too narrow somewhere, as an enumeration of all outcomes shows (``tests/evaluation/test_intervals.py``): with
    few images of each class ``mean_of`` Wilson intervals covers 88 to 92 % of equal recalls, and where one class is much
    smaller ``mean_recall`` covers 86 to 90 %.

    Args:
        recalls: of the two classes, or of the one that occurs.
        sizes: number of images per class; effective sizes if images are grouped.

    Example:
        >>> [round(bound, 3) for bound in balanced_recall(np.array([0.8, 0.9]), np.array([10.0, 20.0]))]
        [0.665, 0.941]
    """
    each = [wilson(recall * size, size) for recall, size in zip(recalls.tolist(), sizes.tolist(), strict=True)]
    combined, shrunk = mean_of(recalls.tolist(), each), mean_recall(recalls, sizes)
    return Interval(min(combined.low, shrunk.low), max(combined.high, shrunk.high))


def f1_from_overlap(overlap: float) -> float:
    """F1 from tp / (tp + fp + fn), which is a proportion and so has a Wilson interval (Hand et al. 2021).

    Example:
        >>> round(f1_from_overlap(0.5), 3)
        0.667
    """
    return 2 * overlap / (1 + overlap)


PRIOR_RATIO, PRIOR_IMAGES = 1.25, 7
"""Prior ratio of an AUROC's variance to Hanley and McNeil's, and its weight in images: the values with the best coverage over
three distributions of scores (``experiments/coverage``)."""


def auroc(
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
        scores: for each class in ``classes``; higher means more likely.
        classes: class numbers to rank against the rest; with two classes, only the positive one.
        groups: group number of each image; ``None`` if images are independent.

    Returns:
        The interval and the name of its method.

    Example:
        >>> labels, scores = np.repeat([0, 1], 4), np.array([0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9])
        >>> interval, method = auroc(labels, scores[:, None], classes=[1], groups=None)
        >>> [round(bound, 3) for bound in interval], method
        ([0.474, 0.995], 'score')
    """
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
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
    z = Z if groups is None else student.ppf(0.975, max(int(units.max()) + 1 - len(np.unique(labels)), 1))

    def distance(true: float) -> float:
        claimed = sum(_hanley_mcneil(true, *n) for n in counts) / k**2
        return float((area - true) ** 2 - z**2 * ratio * claimed)

    low = 0.0 if area <= 0 else float(brentq(distance, 0, min(area, 1 - 1e-9)))
    high = 1.0 if area >= 1 else float(brentq(distance, max(area, 1e-9), 1))
    return Interval(low, high), "score"


def _delong(
    labels: Int[np.ndarray, " image"],
    scores: Float[np.ndarray, "image ranked"],
    classes: Sequence[int],
    units: Int[np.ndarray, " image"],
) -> tuple[list[float], float]:
    """The area of each class and DeLong's variance of their mean.

    An image's influence on the mean area is its placement among the images of other classes, found by sorting (DeLong
    1988; Sun and Xu 2014). The variance is taken within classes, after summing over groups (Obuchowski 1997).
    """
    areas, influence = [], np.zeros(len(labels))
    for column, k in enumerate(classes):
        positive = labels == k
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        score = scores[:, column]
        placement = rankdata(score)
        placement[positive] = (placement[positive] - rankdata(score[positive])) / n_negative
        placement[~positive] = 1 - (placement[~positive] - rankdata(score[~positive])) / n_positive
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


def calibration_error(
    gaps: Float[np.ndarray, " image"],
    model_variance: Float[np.ndarray, " image"],
    bins: Int[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None,
    seed: int = 0,
) -> Interval:
    """Conservative bounds of the expected calibration error.

    The error is a sum of absolute values, so that chance alone makes it positive, and bootstrap intervals of a perfectly
    calibrated model don't contain 0. Let e be the noise of each bin's gap: the observed error is at most the true error plus
    sum |e|, which gives the lower bound, and at least the true error plus a sum of e with fixed signs, which gives the upper
    bound. e is normal, with the larger of the bin's sample variance and the variance under the model's probabilities.

    Args:
        gaps: truth (0 or 1) minus probability, per image.
        model_variance: p * (1 - p), per image.
        bins: bin number of each image.
        groups: group number of each image; ``None`` if images are independent.
        seed: of the simulation for the lower bound.
    """
    n = len(gaps)
    units = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    used, bins = np.unique(bins, return_inverse=True)
    counts = np.bincount(bins)
    sums = np.bincount(bins, weights=gaps)
    error = np.abs(sums).sum() / n
    centred = np.zeros((units.max() + 1, len(used)))
    np.add.at(centred, (units, bins), gaps - (sums / counts)[bins])
    covariance = centred.T @ centred
    claimed = np.bincount(bins, weights=model_variance)
    covariance += np.diag(np.maximum(claimed - np.diag(covariance), 0))
    draws = np.random.default_rng(seed).multivariate_normal(np.zeros(len(used)), covariance, 4000, method="eigh")
    low = error - np.quantile(np.abs(draws).sum(axis=1), 0.975) / n
    high = error + Z * np.sqrt(np.abs(covariance).sum()) / n
    return Interval(float(max(low, 0)), float(min(high, 1)))
