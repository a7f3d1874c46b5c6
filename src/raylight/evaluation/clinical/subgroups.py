"""A model's performance in each subgroup of the images, and the gap to all other images.

Not here: which subgroup an image belongs to (``data.splits.subgroups``), and tables.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Int
from scipy.optimize import brentq
from scipy.special import ndtr

from raylight.evaluation.bootstrap import n_units
from raylight.evaluation.differences.paired import SIGNIFICANT, Difference, holm, recovered
from raylight.evaluation.intervals import UNDEFINED, Interval, Z, effective_size, wilson
from raylight.evaluation.metrics import Estimate, evaluate
from raylight.evaluation.predictions import Predictions, group_numbers

FEWEST = 20
"""Minimum number of images (or groups of images) of a subgroup that is compared."""

SHOWN = ("accuracy", "recall", "specificity", "auroc", "brier")
"""Metrics of a subgroup."""


@dataclass(frozen=True)
class Subgroup:
    """A model in one subgroup.

    Attributes:
        column: that makes the subgroup.
        name: value, or range of values, of the column.
        n: images.
        positives: of the positive class; None with more than two classes.
        estimates: by metric of ``SHOWN``; with more than two classes, without recall and specificity.
        gap: by ``accuracy`` and (two classes) ``recall`` and ``specificity``: how much higher it is than on all other
            images; empty where the subgroup or the rest is too small to compare.
        corrected: p-value of each gap, corrected for the number of comparisons of all columns (Holm); two subgroups that
            make up all images are one comparison.
    """

    column: str
    name: str
    n: int
    positives: int | None
    estimates: Mapping[str, Estimate]
    gap: Mapping[str, Difference]
    corrected: Mapping[str, float]

    @property
    def compared(self) -> bool:
        """Whether it is large enough to be compared with the rest."""
        return bool(self.gap)


def subgroup_results(
    predictions: Predictions, threshold: float | None, membership: Mapping[str, Sequence[str | None]]
) -> list[Subgroup]:
    """Metrics of each subgroup and gaps to the rest.

    Args:
        predictions: of labelled images, calibrated.
        threshold: decision threshold of two classes, 0 to 1; None stands for 0.5.
        membership: by column, the subgroup of each image; None where it isn't known.

    Returns:
        By column, subgroups in alphabetical order.

    Raises:
        ValueError: a subgroup without a labelled image.
    """
    found, tests = [], []
    for column, names in membership.items():
        for name in sorted({name for name in names if name is not None}):
            inside = np.array([one == name for one in names], dtype=bool)
            found.append(_subgroup(column, name, predictions, threshold, inside))
            tests.append((inside if inside[0] else ~inside).tobytes())  # of two halves, each is compared with the other
    corrected: dict[str, dict[bytes, float]] = {}
    for metric in dict.fromkeys(metric for one in found for metric in one.gap):
        p_values = {test: one.gap[metric].p_value for test, one in zip(tests, found, strict=True) if metric in one.gap}
        corrected[metric] = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    return [
        replace(one, corrected={metric: corrected[metric][test] for metric in one.gap})
        for test, one in zip(tests, found, strict=True)
    ]


def below_the_rest(subgroups: Sequence[Subgroup]) -> list[tuple[Subgroup, str]]:
    """The subgroups, and the metric of each, that are below the rest beyond chance; without any, the one of the least accuracy.

    Args:
        subgroups: of any columns; only those that are large enough to be compared count.

    Returns:
        By metric, the largest gap first; empty where no accuracy is below that of the rest, and nothing else beyond chance.
    """
    below = [(one, metric) for one in subgroups for metric, gap in one.gap.items() if gap.value < 0]
    order = list(dict.fromkeys(metric for _, metric in below))
    below.sort(key=lambda pair: (order.index(pair[1]), pair[0].gap[pair[1]].value))
    certain = [(one, metric) for one, metric in below if one.corrected[metric] < SIGNIFICANT]
    return certain or [(one, metric) for one, metric in below if metric == "accuracy"][:1]


def _subgroup(
    column: str, name: str, predictions: Predictions, threshold: float | None, inside: Bool[np.ndarray, " image"]
) -> Subgroup:
    own, rest = predictions.where(inside), predictions.where(~inside)
    two = len(predictions.class_names) == 2
    shown = [metric for metric in SHOWN if two or metric not in ("recall", "specificity")]
    estimates = evaluate(own, threshold)
    gap = {}
    if min(_units(own), _units(rest)) >= FEWEST:
        first, second = rest.labelled(threshold), own.labelled(threshold)
        parts = {"accuracy": (slice(None), slice(None))}
        if two:
            parts["recall"] = (first.labels == first.positive, second.labels == second.positive)
            parts["specificity"] = (first.labels != first.positive, second.labels != second.positive)
        for metric, (among, also) in parts.items():
            gap[metric] = independent_difference(
                (first.predicted == first.labels)[among],
                (second.predicted == second.labels)[also],
                (
                    None if first.groups is None else first.groups[among],
                    None if second.groups is None else second.groups[also],
                ),
            )
    positives = int((own.labels == own.positive).sum()) if two else None
    return Subgroup(column, name, len(own), positives, {metric: estimates[metric] for metric in shown}, gap, {})


def _units(predictions: Predictions) -> int:
    return n_units(group_numbers(predictions.groups), len(predictions))


def independent_difference(
    first_right: Bool[np.ndarray, " image"],
    second_right: Bool[np.ndarray, " other_image"],
    groups: tuple[Int[np.ndarray, " image"] | None, Int[np.ndarray, " other_image"] | None] = (None, None),
) -> Difference:
    """The difference of two proportions of different images: second minus first.

    Newcombe's interval (1998, method 10), from both proportions' Wilson intervals; the p-value is that of the widest interval
    of this kind that excludes 0, so that both agree. Of grouped images, with effective sample sizes.

    Args:
        first_right: successes among the first images.
        second_right: successes among the second images.
        groups: group number of each image of both; None if images are independent.

    Returns:
        Value and bounds between -1 and 1; NaN where one of both has no image.

    Example:
        >>> found = independent_difference(np.arange(100) < 90, np.arange(50) < 35)
        >>> f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f}), p = {found.p_value:.4f}"
        '-0.20 (-0.34 to -0.07), p = 0.0022'
    """
    if not len(first_right) or not len(second_right):
        return Difference(np.nan, *UNDEFINED, np.nan)
    rights = first_right, second_right
    shares = [float(right.mean()) for right in rights]
    sizes = [effective_size(right, of_group) for right, of_group in zip(rights, groups, strict=True)]
    value = shares[1] - shares[0]

    def bounds(z: float) -> Interval:
        first, second = (
            Estimate(share, *wilson(share * size, size, z), round(size), "wilson")
            for share, size in zip(shares, sizes, strict=True)
        )
        return recovered(first, second, correlation=0.0)

    p_value = 1.0
    if value:
        nearer, sign = (0, 1) if value > 0 else (1, -1)
        z = brentq(lambda z: sign * bounds(z)[nearer], 1e-9, 37) if sign * bounds(37)[nearer] < 0 else 37.0
        p_value = float(2 * ndtr(-z))
    return Difference(value, *bounds(Z), p_value)
