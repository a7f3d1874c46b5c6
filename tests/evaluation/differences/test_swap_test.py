"""Random swaps against all swaps: the exact test of signs."""

import numpy as np
import pytest
from scipy.stats import binomtest

from raylight.evaluation.differences.swap_test import critical_difference, swap_p_value, swapped_differences
from raylight.evaluation.predictions import LabelledPredictions


def judged(right: np.ndarray, groups: np.ndarray | None = None) -> LabelledPredictions:
    labels = np.arange(len(right)) % 2
    predicted = np.where(right, labels, 1 - labels)
    return LabelledPredictions(labels, np.eye(2)[predicted], predicted, 1, groups)


def test_accuracy_has_the_p_value_of_the_sign_test() -> None:
    """Of 30 images nine are right by the second model alone, and one by the first."""
    first, second = np.ones(30, bool), np.ones(30, bool)
    first[:9], second[9] = False, False
    swapped = swapped_differences(judged(first), judged(second), 20_000, 0)["accuracy"]
    exact = binomtest(1, 10).pvalue
    assert swap_p_value(8 / 30, swapped) == pytest.approx(exact, abs=0.004)
    assert sorted(np.unique(np.round(30 * swapped))) == list(range(-10, 11, 2))


def test_images_of_a_group_are_swapped_together() -> None:
    first, second = np.zeros(30, bool), np.ones(30, bool)
    groups = np.arange(30) // 10
    swapped = swapped_differences(judged(first, groups), judged(second, groups), 2000, 0)["accuracy"]
    assert sorted(np.unique(np.round(3 * swapped))) == [-3, -1, 1, 3]
    assert swap_p_value(1.0, swapped) == pytest.approx(2 / 8, abs=0.03)


def test_the_critical_difference_is_where_the_p_value_crosses_the_level() -> None:
    swapped = np.random.default_rng(0).normal(size=999)
    critical = critical_difference(swapped)
    assert swap_p_value(critical + 1e-5, swapped) < 0.05 <= swap_p_value(critical - 1e-5, swapped)
    assert np.quantile(np.abs(swapped), 0.95) == pytest.approx(critical, rel=0.02)
    assert critical_difference(swapped[:10]) == np.inf
