"""The performance of a recipe, and differences between recipes, with seeds and test images as random effects.

A recipe is a configuration without its seed; its runs are random draws. Two runs of one recipe differ, so that a difference
between two runs says little about their recipes. The same design is used in radiology, where several readers read the same
cases: runs are readers, nested in recipes, and test images are cases. Obuchowski and Rockette (1995) analyse it by the
variance between readers and the covariances that shared cases cause; Hillis (2007, 2014) gives the degrees of freedom, and
the design with readers nested in the tests that are compared.

For a recipe of k runs the variance of its mean is estimated by

    s^2 / k + c        s^2: variance between its runs; c: mean covariance of two of its runs, from the images they share

and of the difference of two recipes by the sum of both s^2 / k plus c1 + c2 - 2 c12 (not less than 0), where c12 is the
mean covariance of a run of one and a run of the other. Only the s^2 have few degrees of freedom; Satterthwaite's formula
gives those of the sum (each recipe has its own s^2, as in Welch's test). Covariances come from leaving out images, or
groups of them, one at a time (jackknife), for any metric. ``experiments/coverage/recipes.py`` measures how often this is
wrong.

Covers the means of recipes, their differences, and what another run would bring. Leaves out two single networks on the
same images (``paired``).
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import stdtr, stdtrit

from raylight.config.rules.metric_names import METRICS
from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.differences.paired import Difference
from raylight.evaluation.intervals import UNDEFINED, Interval
from raylight.evaluation.predictions import LabelledPredictions, Predictions
from raylight.evaluation.zero_events import RANGES

BLOCKS = 400
"""Maximum number of jackknife blocks of images or groups."""

CHUNK_ELEMENTS = 1 << 22
"""Weights per chunk."""


@dataclass(frozen=True)
class Spread:
    """A metric of a recipe.

    Attributes:
        values: of its runs, in order; empty if the metric is undefined.
        mean: over the runs; ``None`` if there are no values, as are the others then.
        deviation: standard deviation over the runs; ``None`` with a single run.
        low: lower bound of the 95 % interval of the mean.
        high: upper bound.
        next: the interval that one more run would be expected to leave; None with a single run.
    """

    values: tuple[float, ...]
    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    next: Interval | None

    @property
    def worth_another(self) -> Interval | None:
        """The interval that a third run would leave, where there are two and it would be a fifth narrower; else None."""
        if self.next is None or len(self.values) != 2 or self.low is None or self.high is None:
            return None
        return self.next if self.next.high - self.next.low < 0.8 * (self.high - self.low) else None


def spread(name: str, estimates: Sequence[Mapping[str, Any] | None]) -> Spread:
    """Summarises a metric over the runs of one recipe.

    With k runs of values v, whose standard deviation is s, and own bounds l and h, the interval reaches from the mean by
    sqrt((t s / sqrt(k))^2 + mean(v - l)^2) downwards, likewise upwards, within the metric's range: both sources of chance at
    their full width, so that it is never too narrow, and too wide where seeds agree. (Satterthwaite's degrees of freedom
    would make it narrower, and hold the truth in 89 % with two runs.)

    Args:
        name: of the metric.
        estimates: one per run, as in ``metrics.json``: value, low, high. Missing or undefined ones are ignored.

    Returns:
        Mean, standard deviation and interval over the runs.

    Example:
        >>> three = spread("accuracy", [{"value": v, "low": v - 0.1, "high": v + 0.1} for v in (0.7, 0.7, 0.7)])
        >>> f"{three.mean:.2f} ({three.low:.2f} to {three.high:.2f})"
        '0.70 (0.60 to 0.80)'
    """
    known = [estimate for estimate in estimates if estimate and estimate["value"] is not None]
    values = tuple(float(estimate["value"]) for estimate in known)
    if not values:
        return Spread((), None, None, None, None, None)
    mean = statistics.fmean(values)
    deviation = statistics.stdev(values) if len(values) > 1 else None
    bounded = [estimate for estimate in known if estimate["low"] is not None and estimate["high"] is not None]
    if not bounded:
        return Spread(values, mean, deviation, None, None, None)
    if deviation is None:
        return Spread(values, mean, None, known[0]["low"], known[0]["high"], None)
    below = statistics.fmean(estimate["value"] - estimate["low"] for estimate in bounded)
    above = statistics.fmean(estimate["high"] - estimate["value"] for estimate in bounded)
    least, most = RANGES.get(name, (0.0, 1.0) if name in METRICS else (-math.inf, math.inf))

    def interval(runs: int) -> Interval:
        between = float(stdtrit(runs - 1, 0.975)) * deviation / math.sqrt(runs)
        return Interval(max(least, mean - math.hypot(between, below)), min(most, mean + math.hypot(between, above)))

    return Spread(values, mean, deviation, *interval(len(values)), interval(len(values) + 1))


class RunPredictions(NamedTuple):
    """A run's test predictions, whose images are identified by content, and its decision threshold."""

    predictions: Predictions
    threshold: float | None


class Measure(NamedTuple):
    """Metrics to compare recipes by.

    Attributes:
        ranges: smallest and largest value of each metric, by name.
        of: takes predictions, and returns a function of weights on their images, as ``WeightedMetrics`` is.
    """

    ranges: Mapping[str, tuple[float, float]]
    of: Callable[[LabelledPredictions], Callable[[Float[np.ndarray, "resample image"]], Mapping[str, Any]]]


BUILT_IN = Measure({name: RANGES.get(name, (0.0, 1.0)) for name in METRICS}, WeightedMetrics)
"""Raylight's own metrics."""


def compare_recipes(
    first: Sequence[RunPredictions], second: Sequence[RunPredictions], measure: Measure = BUILT_IN
) -> dict[str, Difference]:
    """Compares two recipes over seeds and test images together.

    Args:
        first: runs of one recipe, each tested on its own images; those of the same path are the same images.
        second: runs of the other one. A recipe of a single run is assumed to vary between seeds as the other does; where both
            have one, only the images are allowed for.
        measure: the metrics.

    Returns:
        How much higher each metric of the second recipe is; bounds and p-value are NaN where the metric isn't defined or
        nothing varies.
    """
    values, left_out = _jackknife([*first, *second], measure)
    return {
        name: nested_difference(bounds, values[:, m], left_out[:, :, m], len(first))
        for m, (name, bounds) in enumerate(measure.ranges.items())
    }


def nested_difference(
    bounds: tuple[float, float], values: Float[np.ndarray, " run"], left_out: Float[np.ndarray, "block run"], first: int
) -> Difference:
    """The difference of one metric between two recipes.

    Args:
        bounds: smallest and largest value of the metric.
        values: of all runs of both recipes, on all their images.
        left_out: the same without each block of images.
        first: how many of the runs are the first recipe's; they come first.

    Returns:
        Second minus first; bounds and p-value are NaN where nothing varies.
    """
    a, b = slice(first), slice(first, None)
    blocks = len(left_out)
    shifts = left_out - values
    covariance = (blocks - 1) / blocks * shifts.T @ shifts
    shared = max(_between_runs(covariance[a, a]) + _between_runs(covariance[b, b]) - 2 * covariance[a, b].mean(), 0.0)
    value = float(values[b].mean() - values[a].mean())
    seeds = _between_seeds(values[a], values[b])
    # Two single networks have the images alone, whose variance is then no better known than from as many blocks.
    return _difference(bounds, value, seeds or [(shared, blocks - 1)], shared if seeds else 0.0)


def compare_by_split(
    first: Sequence[RunPredictions], second: Sequence[RunPredictions], test_share: float, measure: Measure = BUILT_IN
) -> dict[str, Difference]:
    """Compares two recipes where each seed had a split of its own: runs on the same split are pairs.

    The splits come from one set of images, so that the pairs aren't independent: the corrected resampled t-test (Nadeau
    and Bengio 2003).

    Args:
        first: runs of one recipe.
        second: runs of the other one on the same splits, in the same order; at least two.
        test_share: test images per training image.
        measure: the metrics.

    Returns:
        How much higher each metric of the second recipe is.
    """
    values = np.array([[_values(run, measure) for run in runs] for runs in (first, second)])
    differences = values[1] - values[0]
    pairs = len(differences)
    variance = differences.var(axis=0, ddof=1) * (1 / pairs + test_share)
    return {
        name: _difference(bounds, float(differences[:, m].mean()), [(float(variance[m]), pairs - 1)], 0.0)
        for m, (name, bounds) in enumerate(measure.ranges.items())
    }


def _between_seeds(one: Float[np.ndarray, " run"], other: Float[np.ndarray, " run"]) -> list[tuple[float, int]]:
    """The variance of each recipe's mean that its seeds cause, with its degrees of freedom; none from single runs."""
    several = [runs for runs in (one, other) if len(runs) > 1]
    if len(several) == 1:  # the other recipe's single run is taken to vary alike
        (runs,) = several
        return [(float(runs.var(ddof=1)) * (1 / len(one) + 1 / len(other)), len(runs) - 1)]
    return [(float(runs.var(ddof=1)) / len(runs), len(runs) - 1) for runs in several]


def _between_runs(covariance: Float[np.ndarray, "run run"]) -> float:
    """The mean covariance of two different runs; of a single run its variance, which is larger."""
    k = len(covariance)
    return float((covariance.sum() - np.trace(covariance)) / (k * (k - 1)) if k > 1 else covariance[0, 0])


def _total(seeds: Sequence[tuple[float, int]], images: float) -> tuple[float, float]:
    """Total variance and its degrees of freedom (Satterthwaite); the images' part counts as known."""
    variance = sum(part for part, _ in seeds) + images
    unsure = sum(part**2 / freedom for part, freedom in seeds)
    return variance, variance**2 / unsure if unsure > 0 else math.inf


def _difference(
    bounds: tuple[float, float], value: float, seeds: Sequence[tuple[float, int]], images: float
) -> Difference:
    variance, freedom = _total(seeds, images)
    if not variance > 1e-18:  # NaN, too
        return Difference(value, *UNDEFINED, float("nan"))
    half = float(stdtrit(freedom, 0.975)) * math.sqrt(variance)
    least, most = bounds
    p_value = 2 * float(stdtr(freedom, -abs(value) / math.sqrt(variance)))
    return Difference(value, max(value - half, least - most), min(value + half, most - least), p_value)


def _values(run: RunPredictions, measure: Measure) -> list[float]:
    labelled = run.predictions.labelled(run.threshold)
    found = measure.of(labelled)(np.ones((1, len(labelled.labels))))
    return [float(found[name][0]) for name in measure.ranges]


def _jackknife(
    runs: Sequence[RunPredictions], measure: Measure
) -> tuple[Float[np.ndarray, "run metric"], Float[np.ndarray, "block run metric"]]:
    """Each metric of each run on all its images, and without each block of them; a block is the same images for all runs."""
    blocks, count = _blocks([run.predictions for run in runs])
    values = np.array([_values(run, measure) for run in runs])
    left_out = np.empty((count, len(runs), len(measure.ranges)))
    for r, (run, block) in enumerate(zip(runs, blocks, strict=True)):
        metrics = measure.of(run.predictions.labelled(run.threshold))
        rows = max(1, CHUNK_ELEMENTS // len(block))
        for start in range(0, count, rows):
            stop = min(start + rows, count)
            found = metrics((block != np.arange(start, stop)[:, None]).astype(np.float64))
            left_out[start:stop, r] = np.stack([found[name] for name in measure.ranges], axis=1)
    return values, left_out


def _blocks(runs: Sequence[Predictions]) -> tuple[list[Int[np.ndarray, " image"]], int]:
    """The block of each image of each run; images of a group are in one block, and all blocks hold the classes alike."""
    numbers: dict[tuple[bool, str], int] = {}
    labels: list[int] = []
    units = []
    for run in runs:
        own = []
        for path, label, group in zip(run.paths, run.labels.tolist(), run.groups or [None] * len(run), strict=True):
            number = numbers.setdefault((group is not None, path if group is None else group), len(numbers))
            if number == len(labels):
                labels.append(label)
            own.append(number)
        units.append(np.array(own))
    count = min(BLOCKS, len(numbers))
    order = np.lexsort((np.random.default_rng(0).permutation(len(numbers)), np.array(labels)))
    block = np.empty(len(numbers), np.int64)
    block[order] = np.arange(len(numbers)) % count
    return [block[own] for own in units], count
