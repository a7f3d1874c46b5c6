"""Prediction-powered accuracy against ppi-python (version 0.2.3, run once on these numbers) and by simulation."""

import numpy as np
import pytest

from raylight.evaluation.clinical.prediction_powered import powered_accuracy


def drawn(seed: int, n: int = 60, many: int = 400):
    rng = np.random.default_rng(seed)
    sure = np.round(rng.beta(6, 1.5, n), 3)
    right = rng.random(n) < sure - 0.05
    return right, sure, np.round(rng.beta(6, 1.5, many), 3)


def test_the_estimate_is_that_of_ppi_python() -> None:
    found = powered_accuracy(*drawn(7))
    assert found.value == pytest.approx(0.77996153, abs=1e-6)
    assert tuple(found.interval) == pytest.approx((0.68189532, 0.87802774), abs=1e-6)


def test_intervals_hold_the_truth_and_are_narrower_where_confidence_tells() -> None:
    """Confidence is 0.05 too high on average, and tells which images are right."""
    truth = 6 / 7.5 - 0.05
    found = [powered_accuracy(*drawn(seed, 100, 2000)) for seed in range(400)]
    held = np.mean([one.interval.low <= truth <= one.interval.high for one in found])
    assert held == pytest.approx(0.95, abs=2.5 * (0.95 * 0.05 / 400) ** 0.5)
    widths = [np.mean([bounds.high - bounds.low for bounds in (one.interval, one.alone_interval)]) for one in found]
    narrower = np.mean([one.interval.high - one.interval.low for one in found])
    assert narrower < np.mean([one.alone_interval.high - one.alone_interval.low for one in found])
    assert len(widths) == 400


def test_confidence_that_tells_nothing_is_left_out_and_said_to_gain_nothing() -> None:
    rng = np.random.default_rng(0)
    right = np.arange(40) < 36
    found = powered_accuracy(right, np.full(40, 0.9), np.full(300, 0.9))
    assert (found.weight, found.value) == (0.0, pytest.approx(0.9))
    backwards = powered_accuracy(right, np.where(right, 0.6, 0.9), rng.random(300))
    assert backwards.weight == 0
    sentence = powered_accuracy(np.ones(40, bool), np.linspace(0.6, 1, 40), rng.random(300)).sentence()
    assert "With 300 unlabelled images, accuracy 1.000" in sentence


def test_the_sentence_has_both_and_which_is_narrower() -> None:
    said = powered_accuracy(*drawn(3, 100, 2000)).sentence()
    assert said.startswith("With 2,000 unlabelled images, accuracy 0.")
    assert "narrower than of the labels alone (" in said
    few = powered_accuracy(np.arange(30) < 29, np.linspace(0.5, 1, 30), np.linspace(0.5, 1, 4)).sentence()
    assert ("no narrower than of the labels alone: take those" in few) or ("narrower than" in few)


def test_one_image_is_too_few() -> None:
    with pytest.raises(ValueError, match="has 1 and 5"):
        powered_accuracy(np.ones(1, bool), np.ones(1), np.ones(5))
