import numpy as np
import pytest
from scipy import stats

from raylight.evaluation import bootstrap as resampling
from raylight.evaluation.bootstrap import (
    bca,
    bootstrap,
    left_out_weights,
    n_units,
    resampling_weights,
    sampled_positions,
)
from raylight.evaluation.definitions.weighted import WeightedMetrics
from tests.evaluation.definitions.test_weighted import labelled


def test_resamples_draw_all_images_alike_and_repeat_with_their_seed():
    draw = lambda seed: np.concatenate(list(resampling_weights(40, None, 2000, seed)))  # noqa: E731
    weights = draw(0)
    assert weights.shape == (2000, 40)
    assert (weights.sum(axis=1) == 40).all()
    # The class mix varies as it does between samples: ten images of a class are 10 ± sqrt(40 * 1/4 * 3/4).
    assert weights[:, 30:].sum(axis=1).mean() == pytest.approx(10, abs=0.3)
    assert weights[:, 30:].sum(axis=1).var() == pytest.approx(7.5, rel=0.15)
    assert np.array_equal(weights, draw(0))
    assert not np.array_equal(weights, draw(1))


def test_groups_are_drawn_whole():
    groups = np.array([5, 5, 5, 7, 7, 9, 2, 2])
    (weights,) = resampling_weights(8, groups, 200, seed=0)
    for group in np.unique(groups):
        members = weights[:, groups == group]
        assert (members == members[:, :1]).all()
    assert (weights[:, [0, 3, 5, 6]].sum(axis=1) == 4).all()


def test_chunks_do_not_change_how_many_resamples_there_are(monkeypatch):
    judged = labelled(50, 2)
    monkeypatch.setattr(resampling, "CHUNK_ELEMENTS", 50 * 7)
    (values,) = bootstrap([WeightedMetrics(judged)], 50, None, 23, seed=0)
    assert {len(value) for value in values.values()} == {23}


def test_models_are_compared_on_the_same_resamples():
    judged = labelled(60, 2)
    first, second = bootstrap([WeightedMetrics(judged)] * 2, 60, None, 50, seed=0)
    assert all(np.array_equal(first[name], second[name]) for name in first)


def test_the_jackknife_leaves_out_images_groups_or_blocks():
    labels = np.array([0, 1, 0, 1])
    assert sorted(left_out_weights(labels, None).tolist()) == sorted((1 - np.eye(4)).tolist())
    grouped = left_out_weights(labels, np.array([3, 3, 8, 8]))
    assert sorted(grouped.tolist()) == [[0, 0, 1, 1], [1, 1, 0, 0]]
    blocks = left_out_weights(np.arange(1000) % 2, None, most=50)
    assert (blocks.sum(axis=1) == 980).all()
    assert (blocks[:, ::2].sum(axis=1) == 490).all()


@pytest.mark.parametrize("kind", ["skewed", "tied"])
def test_bca_is_scipys_to_the_last_digit(kind):
    """Of the same resamples; a mean of zeros and ones has many that equal the value, of which half count as below."""
    rng = np.random.default_rng(2)
    data = rng.exponential(size=40) ** 2 if kind == "skewed" else (rng.random(40) < 0.8).astype(float)
    theirs = stats.bootstrap((data,), np.mean, n_resamples=1500, method="BCa", rng=rng)
    ours = bca(data.mean(), theirs.bootstrap_distribution, (data.sum() - data) / 39)
    assert ours == pytest.approx(tuple(theirs.confidence_interval), abs=1e-9)


def test_bca_counts_resamples_that_differ_by_rounding_as_ties():
    resampled = np.r_[
        np.full(30, 0.5 - 9e-7), np.full(40, 0.5 + 9e-7), np.linspace(0.3, 0.49, 15), np.linspace(0.51, 0.8, 15)
    ]
    rounded = np.where(np.abs(resampled - 0.5) < 1e-5, 0.5, resampled)
    assert bca(0.5, resampled, np.full(9, 0.5)) == pytest.approx(bca(0.5, rounded, np.full(9, 0.5)), abs=2e-6)


def test_bca_of_a_value_at_the_edge_reaches_to_the_other_side_only():
    resampled = np.linspace(0.1, 0.9, 81)
    # None is below the value: as many as 1 of 81, the least that could be told.
    bias = stats.norm.ppf(1 / 81)
    expected = np.quantile(resampled, stats.norm.cdf(2 * bias + 1.959964))
    assert bca(0.05, resampled, np.full(9, 0.5)) == pytest.approx((0.05, expected))
    low, high = bca(0.95, resampled, np.full(9, 0.5))
    assert (low, high) == pytest.approx((np.quantile(resampled, stats.norm.cdf(-2 * bias - 1.959964)), 0.95))


def test_two_resamples_are_the_fewest():
    assert np.isnan(bca(0.5, np.array([0.4]), np.full(9, 0.5))).all()
    assert np.isfinite(bca(0.5, np.array([0.4, 0.6]), np.full(9, 0.5))).all()
    assert np.isfinite(bca(0.5, np.array([0.4, 0.6]), np.full(9, np.nan))).all()


def test_units_are_groups_or_images():
    assert (n_units(None, 7), n_units(np.array([4, 4, 9, 9, 9]), 5)) == (7, 2)
    one = bca(0.5, np.linspace(0.3, 0.7, 99), np.full(9, 0.5))
    assert bca(0.5, np.linspace(0.3, 0.7, 99), np.full(9, 0.5), units=1) == one
    wider = bca(0.5, np.linspace(0.3, 0.7, 99), np.full(9, 0.5), units=2)
    assert 0.5 - wider.low == pytest.approx((0.5 - one.low) * stats.t.ppf(0.975, 1) / 1.959964 * np.sqrt(2), rel=1e-6)


def test_positions_are_drawn_without_repetition_in_order():
    assert sampled_positions(5, 9).tolist() == [0, 1, 2, 3, 4]
    some = sampled_positions(1000, 50)
    assert len(set(some.tolist())) == 50
    assert (np.diff(some) > 0).all()
    assert 300 < some.mean() < 700
    assert np.array_equal(some, sampled_positions(1000, 50))


def test_blocks_of_groups_hold_the_classes_alike():
    """A group has the class of most of its images."""
    groups = np.repeat(np.arange(40), 3)
    labels = np.repeat(np.arange(40) % 2, 3)
    labels[::3] = 1 - labels[::3]  # one image of each group is of the other class
    weights = left_out_weights(labels, groups, most=10)
    assert weights.shape == (10, 120)
    for row in weights:
        left_out = np.unique(groups[row == 0])
        assert len(left_out) == 4
        assert (left_out % 2).sum() == 2
    assert (weights.sum(axis=0) == 9).all()
