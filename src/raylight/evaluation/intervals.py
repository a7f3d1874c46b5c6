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
from scipy.special import ndtri, stdtrit

Z = float(ndtri(0.975))
"""Standard deviations on each side of a 95 % interval."""


class Interval(NamedTuple):
    """Bounds of a 95 % interval; NaN where there is none."""

    low: float
    high: float


UNDEFINED = Interval(float("nan"), float("nan"))


def wilson(successes: float, n: float, z: float = Z) -> Interval:
    """The score interval of a proportion (Wilson 1927), which has a width at 0 and at n successes, too.

    Args:
        successes: 0 to n; may be a fraction.
        n: number of trials; may be an effective sample size.
        z: standard deviations on each side.

    Returns:
        Bounds between 0 and 1; NaN without trials.

    Example:
        >>> [round(bound, 3) for bound in wilson(40, 40)]
        [0.912, 1.0]
    """
    if n <= 0:
        return UNDEFINED
    share = successes / n
    middle = (successes + z**2 / 2) / (n + z**2)
    half = z * np.sqrt(n * share * (1 - share) + z**2 / 4) / (n + z**2)
    # Rounding leaves 1e-17 of bounds that are 0 and 1.
    return Interval(0.0 if successes == 0 else float(middle - half), 1.0 if successes == n else float(middle + half))


def tango(gains: float, losses: float, n: float, z: float = Z) -> Interval:
    """The score interval of a paired difference of proportions (Tango 1998, Stat. Med. 17:891).

    It holds all differences d that the score test doesn't reject: (gains - losses - n d)^2 <= z^2 n v(d), where v is the
    variance of the net gain per image under the maximum-likelihood proportions with difference d. At d = 0 the test is
    McNemar's without continuity correction; without any disagreement the interval still has a width.

    Args:
        gains: images that only the second model gets right; may be effective numbers.
        losses: images that only the first model gets right.
        n: number of all images.
        z: standard deviations on each side.

    Returns:
        Bounds of the second model's proportion minus the first's, -1 to 1; NaN without images.

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
        return float((gains - losses - n * difference) ** 2 - z**2 * n * max(variance, 0.0))

    # Slightly beside the value, where the distance is 0 instead of negative when no image tells the models apart.
    value, epsilon = (gains - losses) / n, 1e-9
    low = -1.0 if losses >= n else float(brentq(distance, -1, value - epsilon))
    high = 1.0 if gains >= n else float(brentq(distance, value + epsilon, 1))
    return Interval(low, high)


def proportion(
    successes: Bool[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None,
    among: Bool[np.ndarray, " image"] | None = None,
) -> Interval:
    """Wilson's interval of a proportion, with the effective sample size if images are grouped.

    Args:
        successes: whether each image is one.
        groups: group number of each image; ``None`` if images are independent.
        among: the images that count; ``None`` for all.

    Returns:
        Bounds between 0 and 1; NaN without images.

    Example:
        >>> right = np.array([True] * 9 + [False])
        >>> [round(bound, 2) for bound in proportion(right, groups=None)]
        [0.6, 0.98]
        >>> [round(bound, 2) for bound in proportion(right, groups=np.arange(10) // 2)]
        [0.46, 0.99]
    """
    if among is not None:
        successes, groups = successes[among], None if groups is None else groups[among]
    n = effective_size(successes, groups)
    return wilson(float(successes.mean()) * n, n) if n > 0 else UNDEFINED


def unit_numbers(groups: Int[np.ndarray, " image"] | None, n: int) -> Int[np.ndarray, " image"]:
    """Numbers the independent units of a sample from 0: its groups, or its images where these are independent.

    Args:
        groups: group number of each image; ``None`` if images are independent.
        n: number of images.

    Returns:
        The number of each image's unit.

    Example:
        >>> unit_numbers(np.array([7, 3, 7]), 3), unit_numbers(None, 3)
        (array([1, 0, 1]), array([0, 1, 2]))
    """
    units: Int[np.ndarray, " image"] = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    return units


def effective_size(successes: Bool[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None) -> float:
    """The effective sample size of a proportion: how many independent images give the same variance.

    The number of images divided by the design effect (Kish 1965), reduced where few groups estimate the variance poorly
    (Korn and Graubard 1998). At most the number of images, at least ``independent_groups``; the latter if all outcomes
    are the same, since agreement within groups is then unknown.

    Args:
        successes: whether each image is one.
        groups: group number of each image; ``None`` if images are independent.

    Returns:
        Number of independent images.

    Example:
        >>> outcomes = np.array([True] * 6 + [False] * 4)
        >>> float(effective_size(outcomes, groups=None)), round(effective_size(outcomes, groups=np.arange(10) // 2), 2)
        (10.0, 5.0)
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
    few_groups = (Z / stdtrit(len(sizes) - 1, 0.975)) ** 2
    return float(np.clip(few_groups * n / max(design_effect, 1e-9), fewest, n))


def independent_groups(groups: Int[np.ndarray, " image"] | None, n: int | None = None) -> float:
    """The effective sample size if images of a group always agree: (sum of sizes)^2 / sum of squared sizes (Kish 1965).

    Args:
        groups: group number of each image; ``None`` for ``n`` independent images.
        n: number of images, needed if ``groups`` is ``None``.

    Returns:
        Between 1 and the number of images; 0 without any.

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
        intervals: of each of them, in the same order.

    Returns:
        Bounds of the mean.

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
        recalls: of each class that occurs, 0 to 1.
        sizes: number of images of each class; effective sizes if images are grouped.

    Returns:
        Bounds between 0 and 1.

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
        recalls: of the two classes, or of the one that occurs, 0 to 1.
        sizes: number of images of each class; effective sizes if images are grouped.

    Returns:
        Bounds between 0 and 1.

    Example:
        >>> [round(bound, 3) for bound in balanced_recall(np.array([0.8, 0.9]), np.array([10.0, 20.0]))]
        [0.665, 0.941]
    """
    each = [wilson(recall * size, size) for recall, size in zip(recalls.tolist(), sizes.tolist(), strict=True)]
    combined, shrunk = mean_of(recalls.tolist(), each), mean_recall(recalls, sizes)
    return Interval(min(combined.low, shrunk.low), max(combined.high, shrunk.high))


def f1_from_overlap(overlap: float) -> float:
    """F1 from the Jaccard index, a proportion that has a Wilson interval (Hand, Christen and Kirielle 2021).

    Args:
        overlap: tp / (tp + fp + fn), 0 to 1.

    Returns:
        F1, 0 to 1.

    Example:
        >>> round(f1_from_overlap(0.5), 3)
        0.667
    """
    return 2 * overlap / (1 + overlap)


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
        gaps: truth (0 or 1) minus probability of each image.
        model_variance: p * (1 - p) of each image.
        bins: bin number of each image.
        groups: group number of each image; ``None`` if images are independent.
        seed: of the simulation for the lower bound.

    Returns:
        Bounds between 0 and 1.

    Example:
        >>> truth, probability = np.repeat([1.0, 0.0], [60, 40]), np.full(100, 0.8)  # an error of 0.2
        >>> bins = np.zeros(100, int)
        >>> bounds = calibration_error(truth - probability, probability * (1 - probability), bins, groups=None)
        >>> [round(bound, 2) for bound in bounds]
        [0.09, 0.3]
    """
    n = len(gaps)
    units = unit_numbers(groups, n)
    used, bins = np.unique(bins, return_inverse=True)
    counts = np.bincount(bins)
    sums = np.bincount(bins, weights=gaps)
    error = np.abs(sums).sum() / n
    centred = np.zeros((units.max() + 1, len(used)))
    np.add.at(centred, (units, bins), gaps - (sums / counts)[bins])
    covariance = centred.T @ centred
    expected = np.bincount(bins, weights=model_variance)
    covariance += np.diag(np.maximum(expected - np.diag(covariance), 0))
    draws = np.random.default_rng(seed).multivariate_normal(np.zeros(len(used)), covariance, 4000, method="eigh")
    low = error - np.quantile(np.abs(draws).sum(axis=1), 0.975) / n
    high = error + Z * np.sqrt(np.abs(covariance).sum()) / n
    return Interval(float(max(low, 0)), float(min(high, 1)))
