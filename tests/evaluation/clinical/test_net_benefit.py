"""Net benefit against dcurves (version 1.1.7, run once on these numbers), and against a formula where it has one."""

import numpy as np
import pytest

from raylight.evaluation.clinical.net_benefit import decision_curve
from raylight.evaluation.predictions import LabelledPredictions

PROBABILITIES = (
    *(0.945, 0.023, 0.314, 0.146, 0.586, 0.195, 0.038, 0.193, 0.484, 0.893, 0.274, 0.175, 0.627, 0.134, 0.095, 0.169),
    *(0.783, 0.192, 0.440, 0.198, 0.695, 0.586, 0.342, 0.154, 0.650, 0.341, 0.676, 0.187, 0.636, 0.451, 0.110, 0.184),
    *(0.843, 0.350, 0.248, 0.371, 0.116, 0.455, 0.103, 0.054),
)
DCURVES = {  # threshold: net benefit of the model, of treating all
    0.05: (0.2131579, 0.2105263),
    0.10: (0.1777778, 0.1666667),
    0.20: (0.1437500, 0.0625000),
    0.35: (0.1173077, -0.1538462),
    0.50: (0.1250000, -0.5000000),
    0.75: (0.0, -2.0),
}


def labelled(probabilities, truth, groups=None) -> LabelledPredictions:
    of_positive, truth = np.asarray(probabilities), np.asarray(truth, np.int64)
    both = np.stack([of_positive, 1 - of_positive], axis=1)  # the positive class is the first
    return LabelledPredictions(1 - truth, both, np.where(of_positive > 0.5, 0, 1), 0, groups)


@pytest.mark.parametrize("threshold", DCURVES)
def test_the_curve_is_that_of_dcurves(threshold: float) -> None:
    curve = decision_curve(labelled(PROBABILITIES, np.arange(40) % 4 == 0), n_resamples=50)
    at = int(np.argmin(np.abs(curve.thresholds - threshold)))
    assert (curve.model[at], curve.treat_all[at]) == pytest.approx(DCURVES[threshold], abs=1e-6)


def test_intervals_are_those_of_a_proportion_where_all_are_acted_on() -> None:
    """TP/n - (1 - TP/n) * odds is linear in a proportion, whose standard error is known."""
    truth = np.arange(400) < 120
    curve = decision_curve(labelled(np.full(400, 0.995), truth), n_resamples=4000)
    odds = curve.thresholds / (1 - curve.thresholds)
    error = (0.3 * 0.7 / 400) ** 0.5 * (1 + odds)
    np.testing.assert_allclose((curve.high - curve.low) / (2 * 1.96 * error), 1, atol=0.05)
    assert not curve.better.any()
    assert curve.useful is None


def test_groups_widen_the_interval_as_fewer_images_would() -> None:
    """Twenty groups of twenty equal images are twenty images."""
    truth, groups = np.repeat(np.arange(20) < 8, 20), np.repeat(np.arange(20), 20)
    grouped = decision_curve(labelled(np.full(400, 0.995), truth, groups), n_resamples=2000)
    alone = decision_curve(labelled(np.full(20, 0.995), np.arange(20) < 8), n_resamples=2000)
    np.testing.assert_allclose(grouped.high - grouped.low, alone.high - alone.low, rtol=0.1)


def test_a_perfect_model_is_useful_everywhere_between_its_probabilities() -> None:
    truth = np.arange(200) % 2 == 0
    curve = decision_curve(labelled(np.where(truth, 0.85, 0.15), truth))
    assert curve.useful == (0.16, 0.85)
    np.testing.assert_allclose(curve.model[15:85], 0.5)


def test_three_classes_have_no_decision_curve() -> None:
    of_three = LabelledPredictions(np.array([0]), np.full((1, 3), 1 / 3), np.array([0]), 0, None)
    with pytest.raises(ValueError, match="needs two classes, not 3"):
        decision_curve(of_three)
