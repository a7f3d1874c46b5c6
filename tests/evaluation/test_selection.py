"""How much the best of several is flattered, against simulations whose truth is known."""

import numpy as np
import pytest

from raylight.evaluation.selection import selection_optimism


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
