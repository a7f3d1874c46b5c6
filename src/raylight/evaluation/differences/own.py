"""The paired difference of a user's metrics between two models: the swap test, as for the others, and a paired bootstrap.

A user's metric is a function of probabilities and classes, so that it is computed anew for each swap and resample. The
interval is at least as wide as that of the swap test, and excludes 0 if and only if the test rejects it. Between recipes of
several runs it is compared as the others are (``random_effects``), with ``own_measure``.
"""

from functools import partial

import numpy as np

from raylight.evaluation.bootstrap import bootstrap
from raylight.evaluation.definitions.own import OwnMetrics
from raylight.evaluation.differences.paired import Difference, agreeing, aligned
from raylight.evaluation.differences.random_effects import Measure
from raylight.evaluation.differences.swap_test import critical_difference, random_swaps, swap_p_value
from raylight.evaluation.intervals import UNDEFINED
from raylight.evaluation.predictions import Predictions


def own_measure(metrics: OwnMetrics) -> Measure:
    """A user's metrics, to compare recipes by.

    Args:
        metrics: built.

    Returns:
        What ``compare_recipes`` and ``compare_by_split`` take.
    """
    return Measure(
        {name: metrics.range_of(name) for name in metrics.names},
        lambda labelled: partial(metrics.resampled, labelled),
    )


def own_differences(
    first: Predictions, second: Predictions, metrics: OwnMetrics, n_resamples: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Compares two models by a user's metrics.

    Args:
        first: predictions of one split.
        second: of the same images, in any order.
        metrics: built.
        n_resamples: of the bootstrap; also number of swaps, including the observed outputs.
        seed: of both.

    Returns:
        Second minus first, by name of the metric.

    Raises:
        RunError: the images, labels or classes differ, or a metric fails.
    """
    one, other = first.labelled(None), aligned(first, second).labelled(None)
    n, labels = len(one.labels), one.labels
    values = [metrics.values(each.probabilities, labels) for each in (one, other)]
    swapped: dict[str, list[float]] = {name: [] for name in values[0]}
    for rows in random_swaps(n, one.groups, n_resamples - 1, seed):
        for kept in rows.astype(bool)[:, :, None]:
            here = metrics.values(np.where(kept, one.probabilities, other.probabilities), labels)
            there = metrics.values(np.where(kept, other.probabilities, one.probabilities), labels)
            for name, found in swapped.items():
                found.append(there[name] - here[name])
    models = [partial(metrics.resampled, each) for each in (one, other)]
    drawn = bootstrap(models, n, one.groups, n_resamples, seed)
    differences = {}
    for name, found in swapped.items():
        value, swaps = values[1][name] - values[0][name], np.array(found)
        resampled = drawn[1][name] - drawn[0][name]
        resampled = resampled[np.isfinite(resampled)]
        if np.isnan(value) or not len(resampled) or not np.abs(swaps[np.isfinite(swaps)]).any():
            differences[name] = Difference(value, *UNDEFINED, np.nan)
            continue
        p_value, reach = swap_p_value(value, swaps), critical_difference(swaps)
        low, high = np.quantile(resampled, (0.025, 0.975))
        bounds = agreeing(value, min(value - reach, float(low)), max(value + reach, float(high)), p_value)
        differences[name] = Difference(value, *bounds, p_value)
    return differences
