"""Prediction-powered accuracy against ppi-python (version 0.2.3, run once on these numbers) and by simulation."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from raylight.evaluation.clinical.prediction_powered import powered_accuracy


def drawn(seed: int, n: int = 60, many: int = 400):
    rng = np.random.default_rng(seed)
    sure = np.round(rng.beta(6, 1.5, n), 3)
    right = rng.random(n) < sure - 0.05
    return right, sure, np.round(rng.beta(6, 1.5, many), 3)


def test_the_estimate_is_that_of_ppi_python() -> None:
    found = powered_accuracy(*drawn(7))
    assert found.value == pytest.approx(0.77996153, abs=1e-6)
    error = (0.87802774 - 0.68189532) / 2 / 1.959964
    size = drawn(7)[0].var() / error**2  # so many labelled images would have its standard error
    wilson = proportion_confint(found.value * size, size, method="wilson")
    assert tuple(found.interval) == pytest.approx(wilson, abs=2e-4)


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


@pytest.mark.parametrize(("accuracy", "n"), [(0.97, 40), (0.9, 50)])
def test_few_mistakes_leave_the_interval_its_width(accuracy: float, n: int) -> None:
    rng = np.random.default_rng(n)
    held = []
    for _ in range(600):
        sure, others = (rng.beta(4 * accuracy, 4 - 4 * accuracy, size) for size in (n, 1000))
        found = powered_accuracy(rng.random(n) < sure, sure, others)
        held.append(found.interval.low <= accuracy <= found.interval.high)
    assert np.mean(held) == pytest.approx(0.95, abs=0.025)
    perfect = powered_accuracy(np.ones(30, bool), np.linspace(0.6, 1, 30), rng.random(300))
    assert perfect.interval == perfect.alone_interval == pytest.approx(proportion_confint(30, 30, method="wilson"))
    assert "no narrower than of the labels alone" in perfect.sentence()


def test_images_of_a_patient_count_once() -> None:
    """Each of sixty images five times is sixty images."""
    right, sure, others = drawn(7)
    many = powered_accuracy(right.repeat(5), sure.repeat(5), others, np.arange(60).repeat(5))
    once = powered_accuracy(right, sure, others)
    assert many.alone_interval.high - many.alone_interval.low > 0.95 * (
        once.alone_interval.high - once.alone_interval.low
    )
    assert many.interval.high - many.interval.low > 0.9 * (once.interval.high - once.interval.low)


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
