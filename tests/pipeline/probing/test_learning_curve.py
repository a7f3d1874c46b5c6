"""The curve's interval holds what was put into drawn verdicts, and heads are judged on images that they never saw."""

import numpy as np
import pytest

from raylight.pipeline.probing.learning_curve import Curve, _posterior, learning_curve, least_images


def test_the_law_is_read_off_in_both_directions() -> None:
    curve = Curve((50, 100), (0.1, 0.05), np.full(9, 0.05), np.full(9, 0.2), np.full(9, 1.0))
    assert curve.accuracy(100) == pytest.approx((0.95, 0.95, 0.95))
    assert curve.accuracy(400)[0] == pytest.approx(1 - 0.05 * (0.2 + 0.8 / 4))
    assert curve.images_for(1 - 0.05 * (0.2 + 0.8 / 4)) == pytest.approx((400, 400, 400))
    assert curve.images_for(0.991) == (np.inf, np.inf, np.inf)  # 0.01 stay wrong for ever
    assert curve.images_for(0.9)[0] < 100


def test_the_interval_holds_the_truth_of_drawn_verdicts() -> None:
    """Images differ in how hard they are; the error is 0.1 with 200 images and 0.05 with 800."""
    rng, held, widths = np.random.default_rng(0), 0, []
    for _ in range(150):
        errors = [0.1 * share**-0.5 for share in (1 / 8, 1 / 4, 1 / 2, 1)]
        hard = rng.uniform(size=200)
        verdicts = np.array([np.clip(hard < error, 0, 1).astype(float) for error in errors])
        low, high = _posterior((25, 50, 100, 200), verdicts, 0.0, np.arange(200), rng).accuracy(800)[1:]
        held += low <= 0.95 <= high
        widths.append(high - low)
    assert held >= 0.92 * 150
    assert np.mean(widths) < 0.09


def test_a_head_that_learns_nothing_is_wrong_half_the_time_at_every_size_and_more_does_not_help() -> None:
    rng = np.random.default_rng(1)
    curve = learning_curve(rng.normal(size=(160, 5)), np.arange(160) % 2, 2, np.arange(160))
    assert curve.sizes == (20, 40, 80, 160)
    assert all(0.35 < error < 0.65 for error in curve.errors)
    assert curve.accuracy(1600)[1] < 0.6


def test_separate_classes_are_learnt_from_few_images_and_the_curve_falls() -> None:
    rng, targets = np.random.default_rng(2), np.arange(400) % 2
    features = rng.normal(size=(400, 30))
    features[:, :3] += targets[:, None] * 1.2
    curve = learning_curve(features, targets, 2, np.arange(400))
    assert curve.errors[0] > curve.errors[1] > curve.errors[-1]
    middle, low, high = curve.accuracy(1600)
    assert low < 0.85 < high  # of the best head: norm.cdf(1.2 * 3**0.5 / 2) = 0.851
    assert middle > 1 - curve.errors[-1]


def test_too_few_images_are_refused() -> None:
    assert least_images(10) == 320
    with pytest.raises(ValueError, match="a learning curve needs at least 64 images, not 30"):
        learning_curve(np.zeros((60, 2)), np.arange(60) % 2, 2, np.arange(60) // 2)
