"""Random swaps against all swaps: the exact test of signs."""

import itertools

import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from raylight.evaluation.differences import swap_test
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


def test_swaps_exchange_both_models_outputs_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three images have eight swaps; each metric's differences are those of the exchanged outputs, ranks for rankings."""
    monkeypatch.setattr(swap_test, "CHUNK_ELEMENTS", 60)  # ten rows at a time
    rng = np.random.default_rng(1)
    labels, scores = np.array([0, 1, 1]), rng.random((2, 3))
    models = [LabelledPredictions(labels, np.stack([1 - p, p], 1), (p > 0.5).astype(int), 1, None) for p in scores]
    swapped = swapped_differences(*models, 205, 0)
    ranks = scores.argsort(axis=1).argsort(axis=1)
    expected: dict[str, set[float]] = {"brier": set(), "auroc": set()}
    for kept in itertools.product([True, False], repeat=3):
        one, other = (np.where(kept, *pair) for pair in (scores, scores[::-1]))
        expected["brier"].add(round(float(((other - labels) ** 2).mean() - ((one - labels) ** 2).mean()), 5))
        one, other = (np.where(kept, *pair) for pair in (ranks, ranks[::-1]))
        expected["auroc"].add(round(float(roc_auc_score(labels, other) - roc_auc_score(labels, one)), 5))
    for name, values in expected.items():
        assert len(swapped[name]) == 205
        assert {round(float(value), 5) + 0.0 for value in swapped[name]} == values
    shares = [(np.abs(swapped["brier"] - value) < 1e-5).mean() for value in expected["brier"]]
    assert sum(shares) == pytest.approx(1)
    assert min(shares) > 0.04  # an eighth each


def test_undefined_swaps_count_neither_for_nor_against() -> None:
    swapped = np.array([0.1, np.nan, -0.3, 0.2, np.nan])
    assert swap_p_value(0.2, swapped) == pytest.approx(3 / 4)
    assert swap_p_value(0.2 + 5e-7, swapped) == pytest.approx(3 / 4)  # equal but for rounding
    assert swap_p_value(-0.21, swapped) == pytest.approx(2 / 4)
    assert critical_difference(swapped, level=0.5) == pytest.approx(0.3, abs=1e-5)
    assert critical_difference(swapped, level=0.75) == pytest.approx(0.2, abs=1e-5)
    assert critical_difference(swapped, level=0.25) == np.inf
