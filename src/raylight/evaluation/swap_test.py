"""Exchanging two models' outputs: what a metric's difference would be if it didn't matter which model said what.

Covers the randomisation test of a difference of any metric on the same images: each image's two outputs (of a group: all
of them) change places at random, and the differences so made show what chance alone does. For rankings the outputs are
ranks among those of the same model (Venkatraman and Begg 1996), since two models' scores needn't share a scale; for
everything else probabilities and decisions. Leaves out intervals (``paired``).
"""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata
from threadpoolctl import threadpool_limits

from raylight.evaluation.bootstrap import CHUNK_ELEMENTS, WeightedMetrics
from raylight.evaluation.predictions import Verdicts

ROUNDING = 1e-6
"""Differences nearer than that are one: sums of float32 differ in the seventh digit."""


def swapped_differences(
    first: Verdicts, second: Verdicts, n_swaps: int, seed: int
) -> dict[str, Float[np.ndarray, " swap"]]:
    """The difference of every metric, second minus first, under random exchanges of the models' outputs.

    Args:
        first: one model on some images.
        second: the other on the same ones, in the same order.
        n_swaps: random exchanges.
        seed: of the exchanges; the same seed gives the same ones, whatever the models.

    Returns:
        By metric; NaN where an exchange leaves it undefined.
    """
    both = _stacked(first, second)
    parts = []
    # One thread: these products are small, and waking every core for each of them is slower.
    with threadpool_limits(1, "blas"):
        for kept in _exchanges(len(first.labels), first.groups, n_swaps, seed):
            one, other = both(np.hstack([kept, 1 - kept])), both(np.hstack([1 - kept, kept]))
            parts.append({name: other[name] - one[name] for name in one})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def swap_p_value(value: float, swapped: Float[np.ndarray, " swap"]) -> float:
    """The share of exchanges, the observed one among them, with a difference at least as large; two-sided."""
    finite = np.abs(swapped[np.isfinite(swapped)])
    return float((1 + (finite >= abs(value) - ROUNDING).sum()) / (1 + len(finite)))


def critical_difference(swapped: Float[np.ndarray, " swap"], level: float = 0.05) -> float:
    """The largest difference whose p-value isn't below ``level``; infinite with too few exchanges to get there."""
    finite = np.sort(np.abs(swapped[np.isfinite(swapped)]))
    # p is below the level from a rank of this on, counting the observed difference as one of them.
    rank = math.ceil(level * (1 + len(finite))) - 1
    return float(finite[-rank] + ROUNDING) if rank >= 1 else math.inf


def _stacked(first: Verdicts, second: Verdicts) -> WeightedMetrics:
    """The metrics of both models' outputs one below the other: weights of 0 and 1 then pick one output per image."""
    outputs = Verdicts(
        np.concatenate([first.labels, second.labels]),
        np.concatenate([first.probabilities, second.probabilities]),
        np.concatenate([first.predicted, second.predicted]),
        first.positive,
        None,
    )
    ranks = np.concatenate([rankdata(one.probabilities, axis=0) for one in (first, second)])
    return WeightedMetrics(outputs, ranks)


def _exchanges(
    n: int, groups: Int[np.ndarray, " image"] | None, n_swaps: int, seed: int
) -> Iterator[Float[np.ndarray, "swap image"]]:
    """Chunks of rows: 1 where an image's outputs stay with their models, 0 where they change places."""
    units = np.arange(n) if groups is None else np.unique(groups, return_inverse=True)[1]
    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_ELEMENTS // (2 * n))
    for start in range(0, n_swaps, chunk):
        kept = rng.integers(0, 2, (min(chunk, n_swaps - start), int(units.max()) + 1), np.int8).astype(np.float32)
        yield kept[:, units]
