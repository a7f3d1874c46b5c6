import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar

from raylight.evaluation.differences.non_inferiority import MARGIN, non_inferiority


def right(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = (both, only_first, only_second, neither)
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


def tango_bound(gains: int, losses: int, n: int, z: float) -> float:
    """The score test inverted numerically: the variance under the difference from the likelihood's maximum."""

    def statistic(d: float) -> float:
        def likelihood(p: float) -> float:  # p: probability of a loss; that of a gain is p + d
            return -(losses * np.log(p) + gains * np.log(p + d) + (n - gains - losses) * np.log1p(-2 * p - d))

        p = minimize_scalar(likelihood, bounds=(max(0, -d) + 1e-12, (1 - d) / 2 - 1e-12), method="bounded").x
        return (gains - losses - n * d) / np.sqrt(n * (2 * p + d - d * d)) - z

    return float(brentq(statistic, -0.5, (gains - losses) / n - 1e-6))


@pytest.mark.parametrize(("gains", "losses", "n"), [(3, 5, 400), (6, 2, 300), (1, 9, 1000)])
def test_the_bound_is_that_of_a_one_sided_score_test(gains: int, losses: int, n: int) -> None:
    found = non_inferiority(*right(n - gains - losses, losses, gains, 0))
    assert found.low == pytest.approx(tango_bound(gains, losses, n, 1.6448536), abs=2e-5)
    assert found.difference == pytest.approx((gains - losses) / n)
    assert (found.n, found.only_model, found.only_version) == (n, losses, gains)
    assert found.shown is bool(found.low > -MARGIN)


def test_without_disagreements_268_images_are_needed() -> None:
    """The bound is then -z^2 / (n + z^2)."""
    assert [non_inferiority(*right(n, 0, 0, 0)).shown for n in (267, 268)] == [False, True]
    assert non_inferiority(*right(100, 0, 0, 0)).needed == 268


def test_the_number_of_images_that_would_do_does() -> None:
    found = non_inferiority(*right(180, 3, 3, 14))
    assert not found.shown
    assert found.needed is not None
    times = -(-found.needed // 200)
    assert non_inferiority(*right(180 * times, 3 * times, 3 * times, 14 * times)).shown


def test_a_loss_that_is_too_large_needs_no_more_images() -> None:
    assert non_inferiority(*right(950, 30, 10, 10)).needed is None


def test_images_of_one_patient_count_as_few() -> None:
    """300 images of 100 patients, all of each patient alike, are 100 images."""
    model, version = right(100, 0, 0, 0)
    groups = np.repeat(np.arange(100), 3)
    found = non_inferiority(np.repeat(model, 3), np.repeat(version, 3), groups)
    assert not found.shown
    assert found.needed == 3 * 268


def test_no_image_is_an_error() -> None:
    with pytest.raises(ValueError, match="no image"):
        non_inferiority(np.ones(0, bool), np.ones(0, bool))
