"""95 % intervals: how far a number from these images may lie from the one that many more would give.

Covers the formulas, each a function of outcomes: Wilson for proportions, Tango for differences of them, a score interval
for AUROC, BCa for what was resampled, and the cases in which the usual formulas claim certainty (40 of 40, an AUROC of 1).
Where several images show the same patient, they count for less than as many patients. Leaves out which metric takes which
formula: ``evaluation``.
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


NOWHERE = Interval(float("nan"), float("nan"))


def wilson(successes: float, n: float) -> Interval:
    """The score interval of a proportion (Wilson 1927), which stays honest at 0 and at n successes.

    Args:
        successes: 0 to n.
        n: trials; a fraction where an effective number stands for it.

    Example:
        >>> [round(bound, 3) for bound in wilson(40, 40)]
        [0.912, 1.0]
    """
    from statsmodels.stats.proportion import proportion_confint

    if n <= 0:
        return NOWHERE
    low, high = proportion_confint(successes, n, method="wilson")
    # Rounding leaves 1e-17 of bounds that are 0 and 1.
    return Interval(0.0 if successes == 0 else float(low), 1.0 if successes == n else float(high))


def tango(gains: float, losses: float, n: float) -> Interval:
    """The score interval of the difference of two shares of the same images (Tango 1998, Stat. Med. 17:891).

    All differences d that the score test doesn't reject: (gains - losses - n d)^2 <= z^2 n v(d), with the variance v of an
    image's net gain at the most likely shares for which the difference is d. At d = 0 the test is McNemar's without a
    continuity correction, and without a single disagreement the interval still has a width.

    Args:
        gains: images that only the second model gets right; fractions where an effective number stands for them.
        losses: images that only the first one gets right.
        n: all images.

    Example:
        >>> [round(bound, 3) for bound in tango(2, 12, 50)]
        [-0.345, -0.061]
    """
    if n <= 0:
        return NOWHERE

    def distance(difference: float) -> float:
        b = (2 * n - gains + losses) * difference - gains - losses
        c = -losses * difference * (1 - difference)
        fewest_losses = (np.sqrt(max(b**2 - 8 * n * c, 0.0)) - b) / (4 * n)
        variance = 2 * fewest_losses + difference * (1 - difference)
        return float((gains - losses - n * difference) ** 2 - Z**2 * n * max(variance, 0.0))

    # A hair beside the value, where the distance is 0 instead of negative when no image tells the models apart.
    value, hair = (gains - losses) / n, 1e-9
    low = -1.0 if losses >= n else float(brentq(distance, -1, value - hair))
    high = 1.0 if gains >= n else float(brentq(distance, value + hair, 1))
    return Interval(low, high)


def proportion(successes: Bool[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None) -> Interval:
    """Wilson's interval, on the effective number of images where they come in groups."""
    n = effective_size(successes, groups)
    return wilson(float(successes.mean()) * n, n) if n > 0 else NOWHERE


def effective_size(successes: Bool[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None) -> float:
    """How many independent images would tell as much about a proportion as these grouped ones.

    The number of images, divided by the design effect: the variance of the share between groups over that of
    independent images (Kish 1965), and a little less because few groups know their variance badly (Korn and
    Graubard 1998). Never more than the images nor less than ``independent_groups``; with all outcomes alike
    nothing shows how much groups agree, and the latter holds.

    Args:
        successes: the outcomes.
        groups: a number for the group of each image; ``None``: each stands for itself.
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
    """The effective size when images of a group always agree: the groups, fewer where some are larger (Kish).

    Args:
        groups: a number for the group of each image; ``None`` for ``n`` images that stand for themselves.
        n: the number of images, needed where ``groups`` is ``None``.
    """
    if groups is None:
        return float(n or 0)
    sizes = np.unique(groups, return_counts=True)[1]
    return float(sizes.sum() ** 2 / (sizes**2).sum()) if len(sizes) else 0.0


def mean_of(values: Sequence[float], intervals: Sequence[Interval]) -> Interval:
    """The interval of a mean of independent estimates, recovered from theirs (MOVER; Zou and Donner 2008).

    The distances to the bounds add up as standard errors do, separately on each side, so that the interval
    keeps the lopsidedness of its parts and doesn't vanish where they don't.
    """
    centre = float(np.mean(values))
    below = np.sqrt(sum((value - bound.low) ** 2 for value, bound in zip(values, intervals, strict=True)))
    above = np.sqrt(sum((bound.high - value) ** 2 for value, bound in zip(values, intervals, strict=True)))
    return Interval(float(centre - below / len(values)), float(centre + above / len(values)))


def mean_recall(recalls: Float[np.ndarray, " class"], sizes: Float[np.ndarray, " class"]) -> Interval:
    """The interval of a mean over many classes of few images each: Wilson's, on an effective number of images.

    A class of one image is right or wrong, and by itself shows no variance. So each class's variance is taken at its
    recall after two more images of the mean recall, and the number of images that would give the mean that variance stands
    for n. Where all recalls are 0 or 1, it is that of classes of equal recall.

    Args:
        recalls: of each class that occurs.
        sizes: its images; effective ones where they come in groups.
    """
    mean, k = float(recalls.mean()), len(recalls)
    shrunk = (sizes * recalls + 2 * mean) / (sizes + 2)
    variance = float((shrunk * (1 - shrunk) / sizes).sum()) / k**2
    n = mean * (1 - mean) / variance if variance > 1e-12 else k**2 / float((1 / sizes).sum())
    return wilson(mean * n, n)


def f1_from_overlap(overlap: float) -> float:
    """F1 from tp / (tp + fp + fn), which is a proportion and so has a Wilson interval (Hand et al. 2021)."""
    return 2 * overlap / (1 + overlap)


PRIOR_RATIO, PRIOR_IMAGES = 1.25, 7
"""How large an AUROC's variance is held to be beside Hanley and McNeil's before the sample is asked, and for how many of its
images that counts: the values that held the coverage best over three shapes of scores (``experiments/coverage``)."""


def auroc(
    labels: Int[np.ndarray, " image"],
    scores: Float[np.ndarray, "image ranked"],
    classes: Sequence[int],
    groups: Int[np.ndarray, " image"] | None,
) -> tuple[Interval, str]:
    """The score interval of an AUROC, or of the mean of one-against-the-rest AUROCs.

    It holds all true areas t for which |area - t| <= z se(t), as Newcombe's method 5 does (2006), which has a width at 1
    too. His se(t) is Hanley and McNeil's; here it is scaled to the sample: by DeLong's variance over Hanley and McNeil's
    at the sample's area, drawn towards ``PRIOR_RATIO`` where that ratio is small, the more the fewer images are ranked
    wrong, since DeLong's variance knows of no others. DeLong's own interval, on the logit scale, takes its variance for
    known: with 20 positives and an area above 0.9 it covers 0.81 to 0.93 instead of 0.95.

    Args:
        labels: the class of each image.
        scores: for each class in ``classes``, higher means more likely that class.
        classes: the classes ranked against the rest; the positive one alone with two classes.
        groups: a number for the group of each image.

    Returns:
        The interval and the name of its method.
    """
    units = np.arange(len(labels)) if groups is None else np.unique(groups, return_inverse=True)[1]
    sides = [(labels == k, labels != k) for k in classes]
    if not all(one.any() and rest.any() for one, rest in sides):
        return NOWHERE, "not defined"
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

    Each image's influence on the (mean) area is its placement among the images of other classes, found by sorting (DeLong
    1988; Sun and Xu 2014); its variance is taken within classes, summed over groups first where there are some
    (Obuchowski 1997).
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


def bca(
    value: float,
    resampled: Float[np.ndarray, " resample"],
    jackknife: Float[np.ndarray, " left_out"],
    units: int | None = None,
) -> Interval:
    """The bias-corrected and accelerated percentile interval (Efron 1987), stretched to contain the value.

    With few units it is widened as Student's t is beside the normal distribution, and by the sqrt(n / (n - 1)) that
    resampling loses of the variance (Hesterberg 2015).

    Args:
        value: the metric on the whole sample.
        resampled: the metric on bootstrap resamples; those where it isn't defined are left aside.
        jackknife: the metric with one image (or group, or block of them) left out at a time.
        units: images, or groups, that were resampled; ``None`` widens nothing.
    """
    resampled = resampled[np.isfinite(resampled)]
    if np.isnan(value) or len(resampled) < 2:
        return NOWHERE
    # Float32 sums and float64 ones differ in the seventh digit; metrics of few images have many true ties.
    below = np.mean(resampled < value - 1e-6) + np.mean(np.abs(resampled - value) <= 1e-6) / 2
    edge = 1 / len(resampled)
    bias = norm.ppf(np.clip(below, edge, 1 - edge))
    left_out = jackknife[np.isfinite(jackknife)]
    difference = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = (difference**2).sum()
    acceleration = (difference**3).sum() / (6 * spread**1.5) if spread > 1e-12 else 0.0
    ends = bias + np.array([-Z, Z])
    low, high = np.quantile(resampled, norm.cdf(bias + ends / (1 - acceleration * ends)))
    stretch = 1.0
    if units is not None and units > 1:
        stretch = student.ppf(0.975, units - 1) / Z * np.sqrt(units / (units - 1))
    return Interval(float(value - stretch * max(value - low, 0)), float(value + stretch * max(high - value, 0)))


def calibration_error(
    gaps: Float[np.ndarray, " image"],
    model_variance: Float[np.ndarray, " image"],
    bins: Int[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None,
    seed: int = 0,
) -> Interval:
    """Bounds of the expected calibration error that hold however large its true gaps are.

    The error sums absolute values, so chance alone makes it positive, and resampling a perfectly calibrated
    model puts 0 outside every interval. With e the noise of each bin's gap, the error on the sample is at
    most the true one plus sum |e|, and at least the true one plus a sum of e with fixed signs. The first
    gives the lower bound, the second the upper one, with e normal, its variance that of the bin (or the one
    that the model itself claims, where that is larger).

    Args:
        gaps: truth (0 or 1) minus probability.
        model_variance: p * (1 - p).
        bins: the bin of each image.
        groups: a number for the group of each image.
        seed: of the draws behind the lower bound.
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
