"""The bootstrap: all metrics on many resamples at once, and the interval that follows from them.

Covers resamples as integer weights, one row each, clustered by group, and BCa intervals. Not here: the metrics as functions of
such weights (``definitions.weighted``), intervals from formulas (``intervals``), and which metric takes which (``metrics``,
``differences``).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from scipy.special import ndtr, ndtri, stdtrit
from threadpoolctl import threadpool_limits

from raylight.evaluation.intervals import UNDEFINED, Interval, Z, unit_numbers

CHUNK_ELEMENTS = 1 << 19
"""Weights per chunk: 2 MB of float32, which fit into the caches of a core."""


Weighted = Callable[[Float[np.ndarray, "resample image"]], Mapping[str, Float[np.ndarray, " resample"]]]
"""Gives all metrics of one model on resamples: how often each image is in each."""


def bootstrap(
    models: Sequence[Weighted],
    n: int,
    groups: Int[np.ndarray, " image"] | None,
    n_resamples: int,
    seed: int,
) -> list[dict[str, Float[np.ndarray, " resample"]]]:
    """Computes all metrics of one or several models on the same resamples: see ``resampling_weights``.

    Args:
        models: the metrics of each model as a function of weights.
        n: number of images.
        groups: group number of each image; ``None`` if images are independent.
        n_resamples: number of resamples.
        seed: the same seed gives the same resamples.

    Returns:
        For each model, the values of each metric, one per resample.
    """
    # One thread: these products are small, and waking every core for each of them is slower.
    with threadpool_limits(1, "blas"):
        chunks = [[model(weights) for model in models] for weights in resampling_weights(n, groups, n_resamples, seed)]
    return [
        {name: np.concatenate([chunk[i][name] for chunk in chunks]) for name in chunks[0][i]}
        for i in range(len(models))
    ]


def bca(
    value: float,
    resampled: Float[np.ndarray, " resample"],
    jackknife: Float[np.ndarray, " left_out"],
    units: int | None = None,
) -> Interval:
    """The bias-corrected and accelerated bootstrap interval (Efron 1987), extended to contain the value.

    It is widened for few units: by the ratio of Student's t to the normal quantile, and by sqrt(n / (n - 1)), since
    resampling underestimates the variance (Hesterberg 2015).

    Args:
        value: the metric on the whole sample.
        resampled: the metric on bootstrap resamples; NaN is ignored.
        jackknife: the metric with one image (or group, or block of them) left out at a time.
        units: number of images or groups resampled; ``None`` for no widening.

    Returns:
        Bounds on both sides of the value; NaN where the value or all but one of the resamples are NaN.

    Example:
        >>> resampled = np.random.default_rng(0).normal(0.8, 0.03, 1000)
        >>> [round(bound, 2) for bound in bca(0.8, resampled, jackknife=np.array([0.79, 0.80, 0.81]))]
        [0.75, 0.86]
    """
    resampled = resampled[np.isfinite(resampled)]
    if np.isnan(value) or len(resampled) < 2:
        return UNDEFINED
    # Float32 and float64 sums differ in the seventh digit; metrics of few images have many true ties.
    below = np.mean(resampled < value - 1e-6) + np.mean(np.abs(resampled - value) <= 1e-6) / 2
    edge = 1 / len(resampled)
    bias = ndtri(np.clip(below, edge, 1 - edge))
    left_out = jackknife[np.isfinite(jackknife)]
    difference = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    spread = (difference**2).sum()
    acceleration = (difference**3).sum() / (6 * spread**1.5) if spread > 1e-12 else 0.0
    ends = bias + np.array([-Z, Z])
    low, high = np.quantile(resampled, ndtr(bias + ends / (1 - acceleration * ends)))
    stretch = 1.0
    if units is not None and units > 1:
        stretch = stdtrit(units - 1, 0.975) / Z * np.sqrt(units / (units - 1))
    return Interval(float(value - stretch * max(value - low, 0)), float(value + stretch * max(high - value, 0)))


def n_units(groups: Int[np.ndarray, " image"] | None, n: int) -> int:
    """Number of units per resample: of groups, or of images.

    Args:
        groups: group number of each image; ``None`` if images are independent.
        n: number of images.

    Returns:
        At most ``n``.
    """
    return n if groups is None else len(np.unique(groups))


def sampled_positions(n: int, most: int) -> Int[np.ndarray, " image"]:
    """A random sample of positions, the same one for the same numbers.

    Args:
        n: number of positions.
        most: size of the sample; all positions where there are no more.

    Returns:
        Positions between 0 and n - 1, in ascending order, none twice.

    Example:
        >>> sampled_positions(3, 5), len(sampled_positions(100, 5))
        (array([0, 1, 2]), 5)
    """
    chosen: Int[np.ndarray, " image"] = np.sort(np.random.default_rng(0).permutation(n)[:most])
    return chosen


def resampling_weights(
    n: int, groups: Int[np.ndarray, " image"] | None, n_resamples: int, seed: int
) -> Iterator[Float[np.ndarray, "resample image"]]:
    """Bootstrap resamples as weights: how often each image is drawn.

    Resampling isn't stratified, so that class frequencies vary as between samples. With groups, whole groups are drawn
    instead of images.

    Args:
        n: number of images.
        groups: group number of each image; ``None`` if images are independent.
        n_resamples: number of rows over all chunks.
        seed: the same seed gives the same weights.

    Yields:
        Chunks of rows, float32.

    Example:
        >>> weights = np.concatenate(list(resampling_weights(4, groups=None, n_resamples=3, seed=0)))
        >>> weights.shape, weights.sum(axis=1)
        ((3, 4), array([4., 4., 4.], dtype=float32))
    """
    units = unit_numbers(groups, n)
    n_units = int(units.max()) + 1
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_ELEMENTS // n)
    for start in range(0, n_resamples, chunk):
        rows = min(chunk, n_resamples - start)
        drawn = rng.integers(0, n_units, (rows, n_units), np.int32)
        drawn += np.arange(rows, dtype=np.int32)[:, None] * n_units
        weights = np.bincount(drawn.ravel(), minlength=rows * n_units).reshape(rows, n_units).astype(np.float32)
        yield weights if groups is None else weights[:, units]


def left_out_weights(
    labels: Int[np.ndarray, " image"], groups: Int[np.ndarray, " image"] | None, most: int = 400
) -> Float[np.ndarray, "left_out image"]:
    """Jackknife weights: each row leaves out one image, or group, or a block of them where there are many.

    Args:
        labels: class number of each image; blocks are stratified by it.
        groups: group number of each image; groups are left out as a whole.
        most: maximum number of rows.

    Returns:
        0 for the images that a row leaves out, 1 for the others; float32.

    Example:
        >>> left_out_weights(np.array([0, 1]), groups=None)
        array([[0., 1.],
               [1., 0.]], dtype=float32)
    """
    units = unit_numbers(groups, len(labels))
    unit_labels = labels if groups is None else _majority(labels, units)
    blocks = np.empty(len(unit_labels), np.int64)
    blocks[np.argsort(unit_labels, kind="stable")] = np.arange(len(unit_labels)) % most
    rows = np.arange(min(most, len(unit_labels)))
    kept: Float[np.ndarray, "left_out image"] = (blocks[units] != rows[:, None]).astype(np.float32)
    return kept


def _majority(labels: np.ndarray, unit_of_image: np.ndarray) -> np.ndarray:
    counts = np.zeros((unit_of_image.max() + 1, labels.max() + 1), np.int64)
    np.add.at(counts, (unit_of_image, labels), 1)
    majority: np.ndarray = counts.argmax(axis=1)
    return majority
