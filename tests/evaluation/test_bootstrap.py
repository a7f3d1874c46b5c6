import numpy as np
import pytest

from raylight.evaluation import bootstrap as resampling
from raylight.evaluation.bootstrap import bootstrap, left_out_weights, resampling_weights
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
