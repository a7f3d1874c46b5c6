"""The swap test: a paired randomisation test for the difference of any metric between two models.

Under the null hypothesis, the two models' outputs for an image are exchangeable: they are swapped at random, for all images
of a group together. Ranking metrics use ranks within each model (Venkatraman and Begg 1996), since the scales of two models'
scores may differ; others use probabilities and decisions. Not here: intervals (``paired``).
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from threadpoolctl import threadpool_limits

from raylight.evaluation.auroc import midranks
from raylight.evaluation.bootstrap import CHUNK_ELEMENTS
from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.intervals import unit_numbers
from raylight.evaluation.predictions import LabelledPredictions

ROUNDING = 1e-6
"""Differences closer than this are equal: float32 sums differ in the seventh digit."""


def swapped_differences(
    first: LabelledPredictions, second: LabelledPredictions, n_swaps: int, seed: int
) -> dict[str, Float[np.ndarray, " swap"]]:
    """The difference of every metric, second minus first, under random swaps of the models' outputs.

    Args:
        first: predictions of one model.
        second: predictions of the other model for the same images, in the same order.
        n_swaps: number of random swaps.
        seed: of the swaps; the same seed gives the same swaps for any models.

    Returns:
        Differences by metric; NaN where the metric is undefined.
    """
    both = _stacked(first, second)
    parts = []
    # One thread: these products are small, and waking every core for each of them is slower.
    with threadpool_limits(1, "blas"):
        for kept in random_swaps(len(first.labels), first.groups, n_swaps, seed):
            one, other = both(np.hstack([kept, 1 - kept])), both(np.hstack([1 - kept, kept]))
            parts.append({name: other[name] - one[name] for name in one})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def swap_p_value(value: float, swapped: Float[np.ndarray, " swap"]) -> float:
    """Two-sided p-value: the share of swaps, including the observed outputs, with a difference at least as large.

    Args:
        value: the observed difference.
        swapped: differences under random swaps; NaN is ignored.

    Returns:
        Above 0, at most 1.

    Example:
        >>> swap_p_value(0.3, np.array([0.1, -0.3, 0.2]))
        0.5
    """
    finite = np.abs(swapped[np.isfinite(swapped)])
    return float((1 + (finite >= abs(value) - ROUNDING).sum()) / (1 + len(finite)))


def critical_difference(swapped: Float[np.ndarray, " swap"], level: float = 0.05) -> float:
    """The largest difference whose p-value isn't below a level.

    Args:
        swapped: differences under random swaps; NaN is ignored.
        level: of significance, 0 to 1.

    Returns:
        A size without sign; infinite with too few swaps to reach the level.

    Example:
        >>> swapped = np.arange(1, 100) / 100
        >>> round(critical_difference(swapped), 2), swap_p_value(0.96, swapped), swap_p_value(0.97, swapped)
        (0.96, 0.05, 0.04)
    """
    finite = np.sort(np.abs(swapped[np.isfinite(swapped)]))
    # p is below the level from a rank of this on, counting the observed difference as one of them.
    rank = math.ceil(level * (1 + len(finite))) - 1
    return float(finite[-rank] + ROUNDING) if rank >= 1 else math.inf


def _stacked(first: LabelledPredictions, second: LabelledPredictions) -> WeightedMetrics:
    """The metrics of both models' outputs concatenated: weights of 0 and 1 select one output per image."""
    outputs = LabelledPredictions(
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.probabilities, second.probabilities]),
        np.concatenate([first.predicted, second.predicted]),
        first.positive,
        None,
    )
    ranks = np.concatenate(
        [np.stack([midranks(column) for column in one.probabilities.T], axis=1) for one in (first, second)]
    )
    return WeightedMetrics(outputs, ranks)


def random_swaps(
    n: int, groups: Int[np.ndarray, " image"] | None, n_swaps: int, seed: int
) -> Iterator[Float[np.ndarray, "swap image"]]:
    """Random swaps of two models' outputs, for all images of a group together.

    Args:
        n: number of images.
        groups: group number of each image; ``None`` if images are independent.
        n_swaps: number of rows over all chunks.
        seed: the same seed gives the same swaps.

    Yields:
        Chunks of rows, float32: 1 where an image keeps its outputs, 0 where they are swapped.
    """
    units = unit_numbers(groups, n)
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_ELEMENTS // (2 * n))
    for start in range(0, n_swaps, chunk):
        kept = rng.integers(0, 2, (min(chunk, n_swaps - start), int(units.max()) + 1), np.int8).astype(np.float32)
        yield kept[:, units]
