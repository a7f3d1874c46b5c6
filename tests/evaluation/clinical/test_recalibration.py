"""Calibration slope and intercept against scikit-learn and the formulas of a logistic regression."""

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from raylight.evaluation.clinical.recalibration import recalibration, smooth
from tests.evaluation.clinical.test_net_benefit import labelled


def drawn(n: int, slope: float, shift: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities whose logits would have to be multiplied by ``slope`` and raised by ``shift`` to be right."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, n)
    return expit(logits), (rng.random(n) < expit(slope * logits + shift)).astype(np.int64)


def test_the_slope_is_that_of_a_logistic_regression_and_its_interval_fishers() -> None:
    probabilities, truth = drawn(300, 0.6, 0.4)
    found = recalibration(labelled(probabilities, truth))
    assert found is not None
    logits = logit(probabilities)
    fit = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(logits[:, None], truth)
    assert found.slope == pytest.approx(fit.coef_[0, 0], abs=1e-5)
    fitted = expit(fit.coef_[0, 0] * logits + fit.intercept_[0])
    design = np.stack([logits, np.ones(300)], axis=1)
    covariance = np.linalg.inv((design * (fitted * (1 - fitted))[:, None]).T @ design)
    assert found.slope_interval.high - found.slope == pytest.approx(1.95996 * covariance[0, 0] ** 0.5, rel=1e-3)
    assert found.n == 300


def test_the_intercept_makes_the_mean_probability_the_frequency() -> None:
    probabilities, truth = drawn(300, 1.0, 0.8)
    found = recalibration(labelled(probabilities, truth))
    assert found is not None
    wanted = brentq(lambda shift: expit(logit(probabilities) + shift).mean() - truth.mean(), -5, 5)
    assert found.intercept == pytest.approx(wanted, abs=1e-5)
    assert found.intercept_interval.low < 0.8 < found.intercept_interval.high


def test_one_confident_error_among_certain_answers_has_the_intercept_that_makes_the_mean_right() -> None:
    """Reweighted least squares alone ends at 2e15 here, without a finite interval."""
    probabilities, truth = np.repeat([1e-9, 0.003, 1 - 1e-9], [20, 1, 19]), np.repeat([0, 1, 1], [20, 1, 19])
    found = recalibration(labelled(probabilities, truth))
    assert found is not None
    logits = logit(np.clip(probabilities, 1e-6, 1 - 1e-6))
    wanted = brentq(lambda shift: expit(logits + shift).mean() - truth.mean(), -50, 50)
    assert found.intercept == pytest.approx(wanted, abs=1e-3)
    fitted = expit(logits + wanted)
    width = 1.95996 / (fitted * (1 - fitted)).sum() ** 0.5
    assert found.intercept_interval == pytest.approx((wanted - width, wanted + width), abs=1e-2)


@pytest.mark.filterwarnings("error")
def test_certain_answers_that_are_all_right_have_an_intercept_of_nought() -> None:
    found = recalibration(labelled(np.repeat([0.0, 1.0], 10), np.repeat([0, 1], 10), np.arange(20) // 2))
    assert found is not None
    assert found.intercept == pytest.approx(0, abs=1e-6)


def test_probabilities_that_are_right_have_slope_one_and_intercept_nought() -> None:
    probabilities, truth = drawn(20_000, 1.0, 0.0)
    found = recalibration(labelled(probabilities, truth))
    assert found is not None
    assert (found.slope, found.intercept) == pytest.approx((1, 0), abs=0.06)
    assert found.mean_error < 0.02


def test_groups_of_equal_images_count_once() -> None:
    probabilities, truth = drawn(60, 1.0, 0.0)
    alone = recalibration(labelled(probabilities, truth))
    many = recalibration(labelled(np.repeat(probabilities, 8), np.repeat(truth, 8), np.repeat(np.arange(60), 8)))
    assert alone is not None
    assert many is not None
    width = alone.slope_interval.high - alone.slope_interval.low
    assert many.slope == pytest.approx(alone.slope, abs=1e-6)
    assert many.slope_interval.high - many.slope_interval.low == pytest.approx(
        width, rel=0.35
    )  # 1 / 8**.5 without groups


def test_with_groups_both_agree_with_statsmodels() -> None:
    from statsmodels.genmod.families import Binomial
    from statsmodels.genmod.generalized_linear_model import GLM

    probabilities, truth = drawn(200, 0.7, 0.3)
    groups = np.sort(np.random.default_rng(1).integers(0, 40, 200))
    groups = np.unique(groups, return_inverse=True)[1]
    found = recalibration(labelled(probabilities, truth, groups))
    assert found is not None
    logits, constant = logit(probabilities), np.ones(200)
    for columns, offset, value, interval in (
        (np.stack([logits, constant], axis=1), None, found.slope, found.slope_interval),
        (constant[:, None], logits, found.intercept, found.intercept_interval),
    ):
        fit = GLM(truth, columns, family=Binomial(), offset=offset).fit(cov_type="cluster", cov_kwds={"groups": groups})
        assert value == pytest.approx(fit.params[0], abs=1e-6)
        assert interval == pytest.approx(fit.conf_int()[0], abs=1e-6)


def test_images_of_one_group_have_no_interval() -> None:
    found = recalibration(labelled(*drawn(50, 1.0, 0.0), np.zeros(50, int)))
    assert found is not None
    assert np.isfinite([found.slope, found.intercept]).all()
    assert np.isnan([*found.slope_interval, *found.intercept_interval]).all()


def test_classes_told_apart_without_error_have_no_finite_slope() -> None:
    truth = np.arange(20) % 2
    found = recalibration(labelled(np.where(truth == 1, 0.9, 0.2) + np.arange(20) / 1000, truth))
    assert found is not None
    assert np.isnan([found.slope, *found.slope_interval]).all()
    assert np.isfinite(found.intercept)


def test_one_class_alone_has_none() -> None:
    assert recalibration(labelled([0.2, 0.4], [1, 1])) is None


def test_the_smooth_curve_follows_a_straight_line_exactly() -> None:
    """Local linear regression reproduces a line, whatever its windows."""
    predicted = np.linspace(0.05, 0.95, 50)
    points, observed = smooth(predicted, 0.2 + 0.5 * predicted)
    np.testing.assert_allclose(points, predicted)
    np.testing.assert_allclose(observed, 0.2 + 0.5 * predicted, atol=1e-9)


def test_the_smooth_curve_stays_a_frequency() -> None:
    points, observed = smooth(np.array([0.1, 0.1, 0.2, 0.8, 0.9, 0.9]), np.array([0.0, 0, 0, 1, 1, 1]))
    assert points.tolist() == [0.1, 0.2, 0.8, 0.9]
    assert ((observed >= 0) & (observed <= 1)).all()


def test_images_of_one_probability_are_averaged() -> None:
    points, observed = smooth(np.full(4, 0.5), np.array([0.0, 1, 1, 1]))
    assert (points.tolist(), observed.tolist()) == ([0.5], [0.75])
    found = recalibration(labelled(np.full(4, 0.5), [0, 1, 1, 1]))
    assert found is not None
    assert found.mean_error == pytest.approx(0.25)
