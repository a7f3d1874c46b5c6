"""How much the best of several is flattered, against simulations whose truth is known."""

import numpy as np
import pytest

from raylight.evaluation.differences.selection import selection_optimism


def test_on_average_it_is_what_choosing_gained() -> None:
    """Ten candidates that are right on 80 % of new images each, chosen on 50."""
    rng = np.random.default_rng(0)
    gained, estimated = [], []
    for _ in range(150):
        right = (rng.uniform(size=(50, 10)) < 0.8).astype(float)
        gained.append(right.mean(axis=0).max() - 0.8)
        estimated.append(selection_optimism(right, right, n_resamples=100))
    assert np.mean(estimated) == pytest.approx(np.mean(gained), rel=0.2)


def test_a_better_one_is_not_flattered_and_one_alone_is_not_chosen() -> None:
    rng = np.random.default_rng(0)
    right = (rng.uniform(size=(400, 2)) < [0.6, 0.9]).astype(float)
    assert selection_optimism(right, right) < 0.002
    assert selection_optimism(right[:, :1], right[:, :1]) < 0.002


def test_each_resample_is_judged_on_the_images_that_it_left_out() -> None:
    """The definition, resample by resample; what chooses and what is reported may differ."""
    rng = np.random.default_rng(3)
    criterion, reported = rng.normal(size=(2, 12, 4))
    scores = []
    for counts in np.random.default_rng(5).multinomial(12, np.full(12, 1 / 12), 200):
        chosen = np.argmax([np.average(criterion[:, k], weights=counts) for k in range(4)])
        if (counts == 0).any():
            scores.append(reported[counts == 0, chosen].mean())
    expected = reported[:, criterion.mean(axis=0).argmax()].mean() - np.mean(scores)
    found = selection_optimism(criterion, reported, n_resamples=200, seed=5)
    assert found == pytest.approx(max(expected, 0))
    # What is reported of the chosen one is lower than of the others: no optimism, not a negative one.
    turned = selection_optimism(criterion, -criterion, n_resamples=200, seed=5)
    assert turned == 0


def test_a_resample_that_leaves_none_out_has_no_say() -> None:
    """Of two images, half of the resamples hold both; in the others the chosen one is right on what chose it alone."""
    two = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert selection_optimism(two, two, n_resamples=400) == pytest.approx(0.5, abs=0.01)
