"""Comparing two models on the same images: intervals and p-values of differences.

Covers pairing two sets of predictions by image, the p-value and the interval of each metric's difference, and Holm's
correction for several comparisons. Not here: tables and pages of comparisons.

====================================  ==================================================================
accuracy; recall, specificity (two)   Tango's score interval; its test of 0 is McNemar's
ece                                   from both models' own bounds (MOVER), which is conservative; no test
the others                            the swap test (``swap_test``); the interval is at least as wide as those of
                                      this test and the bootstrap (BCa), and allows for zero events; for rankings,
                                      instead of the bootstrap, both models' own intervals with their correlation
====================================  ==================================================================

An interval excludes 0 if and only if the p-value is below 0.05.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from raylight.config.rules.metric_names import METRICS
from raylight.errors import RunError
from raylight.evaluation import intervals
from raylight.evaluation.bootstrap import bca, bootstrap, left_out_weights, n_units
from raylight.evaluation.caveats import caveat_of_difference
from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.differences.disagreements import disagreements
from raylight.evaluation.differences.swap_test import ROUNDING, critical_difference, swap_p_value, swapped_differences
from raylight.evaluation.intervals import UNDEFINED, Interval
from raylight.evaluation.metrics import Estimate, by_formula, by_resampling
from raylight.evaluation.predictions import LabelledPredictions, Predictions
from raylight.evaluation.zero_events import RANGES, with_added_disagreements, with_added_events

SIGNIFICANT = 0.05
"""Significance level."""

DECISION_METRICS = ("balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc")
"""Metrics that depend on decisions alone."""

AP = "average_precision"


@dataclass(frozen=True)
class Difference:
    """How much higher a metric of the second model is than that of the first.

    Attributes:
        value: second minus first; NaN where the metric isn't defined.
        low: lower bound, 95 %; NaN where no swap of outputs makes a difference.
        high: upper bound.
        p_value: of no difference, two-sided; NaN where the bounds are, and for the calibration error, which has no test.
        caveat: why the coverage may not be 95 %, one of ``CAVEATS``; ``None`` for no caveat.
    """

    value: float
    low: float
    high: float
    p_value: float
    caveat: str | None = None


@dataclass(frozen=True)
class PairedComparison:
    """Two models on the same images.

    Attributes:
        both: images that both classify correctly.
        only_first: that only the first one does.
        only_second: that only the second one does.
        neither: that neither does.
        p_value: McNemar's test of equal accuracy.
        differences: by metric.
    """

    both: int
    only_first: int
    only_second: int
    neither: int
    p_value: float
    differences: dict[str, Difference]


def compare(
    first: Predictions,
    second: Predictions,
    thresholds: tuple[float | None, float | None] = (None, None),
    n_resamples: int = 2000,
    seed: int = 0,
) -> PairedComparison:
    """Compares two models by their predictions for the same images; takes groups into account.

    Args:
        first: predictions of one split.
        second: of the same images, in any order.
        thresholds: the decision threshold of each, 0 to 1; ``None`` stands for 0.5.
        n_resamples: of the bootstrap; also number of swaps of the swap test, including the observed outputs.
        seed: of both.

    Returns:
        Counts of correct images, and the difference of each of ``METRICS``, second minus first.

    Raises:
        RunError: the images, labels or classes differ.
        ValueError: no labelled image.
    """
    second = aligned(first, second)
    one, other = first.labelled(thresholds[0]), second.labelled(thresholds[1])
    right, groups = (one.predicted == one.labels, other.predicted == other.labels), one.groups
    accuracy = proportion_difference(*right, groups)
    differences = _by_swapping(one, other, n_resamples, seed) | {"accuracy": accuracy}
    if one.n_classes == 2:
        for name, kind in (("recall", one.positive), ("specificity", 1 - one.positive)):
            among = one.labels == kind
            inside = None if groups is None else groups[among]
            differences[name] = proportion_difference(right[0][among], right[1][among], inside)
    return PairedComparison(
        both=int((right[0] & right[1]).sum()),
        only_first=int((right[0] & ~right[1]).sum()),
        only_second=int((right[1] & ~right[0]).sum()),
        neither=int((~right[0] & ~right[1]).sum()),
        p_value=accuracy.p_value,
        differences={name: replace(differences[name], caveat=caveat_of_difference(name, one)) for name in METRICS},
    )


def proportion_difference(
    first_right: Bool[np.ndarray, " image"],
    second_right: Bool[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None = None,
) -> Difference:
    """The paired difference of two proportions: McNemar's test and Tango's interval, which agree at 0.

    If images are grouped, all counts are divided by the design effect at a difference of 0 (Durkalski et al. 2003), with
    ``independent_groups`` as the smallest effective sample size.

    Args:
        first_right: whether the first model is right, per image.
        second_right: whether the second model is right, per image.
        groups: group number of each image; ``None`` if images are independent.

    Returns:
        Second minus first, -1 to 1; NaN without images.

    Example:
        >>> found = proportion_difference(np.arange(50) < 30, np.arange(50) < 45)
        >>> f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f}), p = {found.p_value:.4f}"
        '0.30 (0.19 to 0.44), p = 0.0001'
    """
    counts = disagreements(first_right, second_right, groups)
    if counts.n == 0:
        return Difference(np.nan, *UNDEFINED, np.nan)
    net, all_of_them = counts.gains - counts.losses, counts.gains + counts.losses
    z = net / all_of_them**0.5 if all_of_them else 0.0
    p_value = float(2 * ndtr(-abs(z)))
    return Difference(net / counts.n, *intervals.tango(counts.gains, counts.losses, counts.n), p_value)


def _by_swapping(
    one: LabelledPredictions, other: LabelledPredictions, n_resamples: int, seed: int
) -> dict[str, Difference]:
    models = [WeightedMetrics(one), WeightedMetrics(other)]
    whole, left_out = np.ones((1, len(one.labels))), left_out_weights(one.labels, one.groups)
    values = [{name: float(value[0]) for name, value in model(whole).items()} for model in models]
    jackknife = [model(left_out) for model in models]
    resampled = bootstrap(models, len(one.labels), one.groups, n_resamples, seed)
    swapped = swapped_differences(one, other, n_resamples - 1, seed)
    own = []
    for each, its, drawn, without in zip((one, other), values, resampled, jackknife, strict=True):
        # Rankings are compared whatever the decisions, so that no class lacks mistakes or successes.
        bounds = by_resampling(AP, each, its[AP], drawn[AP], without[AP], extended=())
        own.append(
            by_formula(each, its, with_added_events(each))
            | {AP: Estimate(its[AP], *bounds, len(each.labels), "bootstrap")}
        )
    one_sided, units = with_added_disagreements(one, other), n_units(one.groups, len(one.labels))
    found = {}
    for name in METRICS:
        value = values[1][name] - values[0][name]
        if name == "ece":
            found[name] = Difference(value, *recovered(own[0][name], own[1][name], 0.0), np.nan)
            continue
        if np.isnan(value) or not (np.abs(swapped[name]) > ROUNDING).any():
            found[name] = Difference(value, *UNDEFINED, np.nan)
            continue
        p_value, reach = swap_p_value(value, swapped[name]), critical_difference(swapped[name])
        first, second = resampled[0][name], resampled[1][name]
        if name in ("auroc", AP):
            outer = recovered(own[0][name], own[1][name], _correlation(first, second))
        else:
            outer = bca(value, second - first, jackknife[1][name] - jackknife[0][name], units)
        low, high = min(value - reach, outer.low), max(value + reach, outer.high)
        if name in DECISION_METRICS:
            moves = [each[name] - value for each in one_sided]
            low, high = value - np.hypot(value - low, min(moves)), value + np.hypot(high - value, max(moves))
        found[name] = Difference(value, *_within(name, agreeing(value, low, high, p_value)), p_value)
    return found


def agreeing(value: float, low: float, high: float, p_value: float) -> Interval:
    """Adjusts an interval to exclude 0 if and only if the p-value is below ``SIGNIFICANT``.

    Args:
        value: the difference.
        low: lower bound.
        high: upper bound.
        p_value: of no difference.

    Returns:
        The adjusted bounds.

    Example:
        >>> agreeing(0.1, 0.02, 0.2, p_value=0.06)
        Interval(low=0.0, high=0.2)
    """
    if p_value >= SIGNIFICANT:
        return Interval(min(low, 0.0), max(high, 0.0))
    epsilon = abs(value) * 1e-6
    return Interval(max(low, epsilon), high) if value > 0 else Interval(low, min(high, -epsilon))


def _within(name: str, bounds: Interval) -> Interval:
    """Clips the interval to the range of the metric's differences."""
    most = 1.0 if name not in RANGES else RANGES[name][1] - RANGES[name][0]
    return Interval(float(np.clip(bounds.low, -most, most)), float(np.clip(bounds.high, -most, most)))


def recovered(first: Estimate, second: Estimate, correlation: float) -> Interval:
    """The interval of a difference, second minus first, from those of its parts (MOVER; Zou and Donner 2008).

    It keeps the asymmetry of the parts; NaN where either has no interval.

    Args:
        first: an estimate.
        second: another one.
        correlation: of the two, -1 to 1; 0 if they come from different images.

    Returns:
        Bounds of the difference; NaN where either has none.

    Example:
        >>> first, second = Estimate(0.8, 0.7, 0.85, 100, ""), Estimate(0.9, 0.8, 0.95, 100, "")
        >>> [round(bound, 3) for bound in recovered(first, second, correlation=0.0)]
        [-0.012, 0.212]
    """
    value = second.value - first.value

    def reach(down: float, up: float) -> float:
        return float(np.sqrt(max(down**2 + up**2 - 2 * correlation * down * up, 0.0)))

    low = value - reach(second.value - second.low, first.high - first.value)
    high = value + reach(second.high - second.value, first.value - first.low)
    return Interval(low, high)


def _correlation(first: Float[np.ndarray, " resample"], second: Float[np.ndarray, " resample"]) -> float:
    """Correlation of two models' values over the resamples; 0 if one of them is constant."""
    defined = np.isfinite(first) & np.isfinite(second)
    if not defined.any() or min(np.ptp(first[defined]), np.ptp(second[defined])) < 1e-6:
        return 0.0
    return float(np.corrcoef(first[defined], second[defined])[0, 1])


def aligned(first: Predictions, second: Predictions) -> Predictions:
    """Puts predictions into the order of others of the same images.

    Args:
        first: whose order is taken.
        second: of the same images, in any order.

    Returns:
        The second predictions in the order of the first.

    Raises:
        RunError: the classes, images or labels differ; says how many and names one.
    """
    if (first.class_names, first.positive_class) != (second.class_names, second.positive_class):
        raise RunError(
            f"can't compare a model of the classes {', '.join(first.class_names)} "
            f"(positive: {first.positive_class}) with one of {', '.join(second.class_names)} "
            f"(positive: {second.positive_class})"
        )
    where = {path: i for i, path in enumerate(second.paths)}
    missing = [path for path in first.paths if path not in where]
    extra = set(where) - set(first.paths)
    if missing or extra:
        example = missing[0] if missing else min(extra)
        raise RunError(
            f"can't compare models on different images: {len(first.paths) - len(missing)} are shared, "
            f"{len(missing)} are only in the first run, {len(extra)} only in the second "
            f"({example!r}, for instance)"
        )
    order = [where[path] for path in first.paths]
    other_labels = np.flatnonzero(first.labels != second.labels[order])
    if len(other_labels):
        raise RunError(
            f"can't compare models on different labels: {len(other_labels)} of {len(order)} images have "
            f"another class in the second run ({first.paths[other_labels[0]]!r}, for instance)"
        )
    return replace(
        second,
        paths=first.paths,
        splits=tuple(second.splits[i] for i in order),
        labels=first.labels,
        probabilities=second.probabilities[order],
        groups=first.groups,
    )


def holm(p_values: Sequence[float]) -> list[float]:
    """Corrects p-values for multiple comparisons (Holm 1979).

    Args:
        p_values: of each comparison; NaN doesn't count.

    Returns:
        Corrected p-values in the same order; NaN stays NaN.

    Example:
        >>> [round(p, 2) for p in holm([0.01, 0.04, 0.03])]
        [0.03, 0.06, 0.06]
    """
    from statsmodels.stats.multitest import multipletests

    corrected = np.array(p_values, np.float64)
    defined = np.isfinite(corrected)
    if defined.sum() > 1:  # multipletests runs the garbage collector, a fifth of a second; one p-value stays as it is
        corrected[defined] = multipletests(corrected[defined], method="holm")[1]
    return [float(value) for value in corrected]
