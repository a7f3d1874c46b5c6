"""Sample sizes against statsmodels' intervals and against simulated tests."""

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from raylight.evaluation.sample_size import images_for, margin, resolution, smallest_difference


@pytest.mark.parametrize(("right", "n"), [(36, 40), (180, 200), (1900, 2000)])
def test_the_margin_is_half_of_wilsons_interval(right: int, n: int) -> None:
    low, high = proportion_confint(right, n, method="wilson")
    assert margin(right / n, n) == pytest.approx((high - low) / 2)


def test_one_image_less_than_needed_is_too_few() -> None:
    for accuracy, half in ((0.9, 0.02), (0.5, 0.05), (0.99, 0.01)):
        needed = images_for(accuracy, half)
        assert margin(accuracy, needed) <= half < margin(accuracy, needed - 1)


def test_the_smallest_difference_is_found_in_four_of_five_samples() -> None:
    found = smallest_difference(500)
    assert found is not None
    rng = np.random.default_rng(0)
    gains, losses, _ = rng.multinomial(500, [(0.1 + found) / 2, (0.1 - found) / 2, 0.9], 20_000).T
    z = (gains - losses) / np.sqrt(np.maximum(gains + losses, 1))
    assert float((2 * norm.sf(abs(z)) < 0.05).mean()) == pytest.approx(0.8, abs=0.02)


def test_few_images_tell_no_models_apart() -> None:
    found = resolution(40)
    assert found.difference is None
    assert found.sentence() == (
        "40 test images measure an accuracy of 0.90 to ±10 points and can't show which of two models that disagree on 10% of "
        "them is better; ±2 points need 868 images."
    )
    assert resolution(400, 0.95).sentence("patients") == (
        "400 test patients measure an accuracy of 0.95 to ±2 points and show a difference between two models from 4 points "
        "on; ±2 points need 469 patients."
    )


def test_below_one_point_a_digit_is_left() -> None:
    assert (
        " 1.00 to ±0.1 points and show a difference between two models from 2 points on;"
        in resolution(1600, 1.0).sentence()
    )
    assert (
        " 0.90 to ±0.4 points and show a difference between two models from 0.6 points on;"
        in resolution(20_000).sentence()
    )
