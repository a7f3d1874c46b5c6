"""Two models on the same images: is the difference more than chance?

Covers pairing two sets of predictions image by image, McNemar's exact test, the interval of the difference of
each metric, and Holm's correction for several comparisons. Leaves out tables and pages of comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.stats import binomtest

from raylight.config.metric_names import METRICS
from raylight.errors import RunError
from raylight.evaluation.bootstrap import WeightedMetrics, bootstrap, left_out_weights
from raylight.evaluation.intervals import NOWHERE, Interval, bca, proportion
from raylight.evaluation.predictions import Predictions


@dataclass(frozen=True)
class Difference:
    """How much higher a metric of the second model is than that of the first.

    Attributes:
        value: second minus first; NaN where the metric isn't defined.
        low: lower bound, 95 %; NaN where no resample tells the models apart.
        high: upper bound.
        p_value: of no difference, two-sided: McNemar's for accuracy, else the bootstrap's; NaN as the bounds.
    """

    value: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images.

    Attributes:
        both: images that both get right.
        only_first: that only the first one gets right.
        only_second: that only the second one gets right.
        neither: that neither gets right.
        p_value: McNemar's exact test, of the question whether the two are right equally often.
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
) -> Comparison:
    """Compare two models by their predictions of the same images.

    The interval of a difference comes from resamples that both models share (BCa), by groups where there are
    some. That of accuracy comes from the images on which the models disagree, by Wilson's interval, which
    has a width even where there are none.

    Args:
        first: predictions of one split.
        second: of the same images, in any order.
        thresholds: the decision threshold of each; ``None`` stands for 0.5.
        n_resamples: bootstrap resamples.
        seed: of the bootstrap.

    Raises:
        RunError: the images or their classes differ; says how.
        ValueError: no image of known class.
    """
    second = aligned(first, second)
    one, other = first.verdicts(thresholds[0]), second.verdicts(thresholds[1])
    models = [WeightedMetrics(one), WeightedMetrics(other)]
    whole = np.ones((1, len(one.labels)))
    values = [model(whole) for model in models]
    resampled = bootstrap(models, one.labels, one.groups, n_resamples, seed)
    weights = left_out_weights(one.labels, one.groups)
    left_out = [model(weights) for model in models]
    right = one.predicted == one.labels, other.predicted == other.labels
    p_value = mcnemar(*right, one.groups)
    differences = {}
    for name in METRICS:
        value = float(values[1][name][0] - values[0][name][0])
        spread = resampled[1][name] - resampled[0][name]
        if name == "accuracy":
            differences[name] = Difference(value, *_accuracy_difference(*right, one.groups), p_value)
        elif np.isnan(value) or np.nanmax(np.abs(spread - spread[0])) < 1e-6:
            differences[name] = Difference(value, *NOWHERE, float("nan"))
        else:
            interval = bca(value, spread, left_out[1][name] - left_out[0][name])
            differences[name] = Difference(value, *interval, _bootstrap_p_value(spread))
    return Comparison(
        both=int((right[0] & right[1]).sum()),
        only_first=int((right[0] & ~right[1]).sum()),
        only_second=int((right[1] & ~right[0]).sum()),
        neither=int((~right[0] & ~right[1]).sum()),
        p_value=p_value,
        differences=differences,
    )


def aligned(first: Predictions, second: Predictions) -> Predictions:
    """The second predictions in the order of the first, once it is sure that they are of the same images.

    Raises:
        RunError: other classes, other images or other labels; says how many and names one.
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


def mcnemar(
    first_right: Bool[np.ndarray, " image"],
    second_right: Bool[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None = None,
) -> float:
    """The exact p-value that two models are right equally often, from the images on which they disagree.

    Where images come in groups, whole groups change sides instead of images: the exact distribution of the
    sum of the groups' net differences under random signs, which is McNemar's binomial when each group has
    one image.

    Args:
        first_right: where the first model is right.
        second_right: where the second one is.
        groups: a number for the group of each image.

    Returns:
        0 to 1, two-sided; 1 where the models never disagree.
    """
    net = second_right.astype(np.int64) - first_right.astype(np.int64)
    if groups is None:
        disagreeing = int(np.abs(net).sum())
        return float(binomtest(int((net > 0).sum()), disagreeing).pvalue) if disagreeing else 1.0
    sums = np.bincount(np.unique(groups, return_inverse=True)[1], weights=net).astype(np.int64)
    distribution = np.ones(1)
    for size in np.abs(sums[sums != 0]).tolist():
        step = np.zeros(2 * size + 1)
        step[[0, -1]] = 0.5
        distribution = np.convolve(distribution, step)
    reach = len(distribution) // 2
    distances = np.abs(np.arange(len(distribution)) - reach)
    return float(min(distribution[distances >= abs(sums.sum())].sum(), 1.0))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979), in the order given; NaN stays and doesn't count."""
    values = np.asarray(p_values, np.float64)
    corrected = np.full(len(values), np.nan)
    order = [i for i in np.argsort(values, kind="stable") if not np.isnan(values[i])]
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, float(values[i]) * (len(order) - rank)))
        corrected[i] = largest
    return [float(value) for value in corrected]


def _accuracy_difference(
    first_right: Bool[np.ndarray, " image"],
    second_right: Bool[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None,
) -> Interval:
    """The difference of two shares of disagreement, from Wilson's interval of each (MOVER)."""
    gains, losses = second_right & ~first_right, first_right & ~second_right
    gain, loss = proportion(gains, groups), proportion(losses, groups)
    value = float(gains.mean() - losses.mean())
    below = np.hypot(gains.mean() - gain.low, loss.high - losses.mean())
    above = np.hypot(gain.high - gains.mean(), losses.mean() - loss.low)
    return Interval(float(value - below), float(value + above))


def _bootstrap_p_value(spread: Float[np.ndarray, " resample"]) -> float:
    """Twice the share of resamples on the other side of 0, counting the sample itself as one of them."""
    spread = spread[np.isfinite(spread)]
    fewer = min((spread <= 0).sum(), (spread >= 0).sum())
    return float(min(1.0, 2 * (fewer + 1) / (len(spread) + 1)))
