"""Net benefit against dcurves (version 1.1.7, run once on these numbers), and against a formula where it has one."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

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
    curve = decision_curve(labelled(PROBABILITIES, np.arange(40) % 4 == 0))
    at = int(np.argmin(np.abs(curve.thresholds - threshold)))
    assert (curve.model[at], curve.treat_all[at]) == pytest.approx(DCURVES[threshold], abs=1e-6)


def test_intervals_are_those_of_a_proportion_where_all_are_acted_on() -> None:
    """TP/n - (1 - TP/n) * odds is linear in a proportion, and so are Wilson's bounds."""
    truth = np.arange(400) < 120
    curve = decision_curve(labelled(np.full(400, 0.995), truth))
    odds = curve.thresholds / (1 - curve.thresholds)
    low, high = proportion_confint(120, 400, method="wilson")
    np.testing.assert_allclose(curve.low, low - (1 - low) * odds)
    np.testing.assert_allclose(curve.high, high - (1 - high) * odds)
    assert not curve.better.any()
    assert curve.useful is None


def test_groups_widen_the_interval_as_fewer_images_would() -> None:
    """Twenty groups of twenty equal images are twenty images, and fewer still where few groups tell the variance."""
    truth, groups = np.repeat(np.arange(20) < 8, 20), np.repeat(np.arange(20), 20)
    grouped = decision_curve(labelled(np.full(400, 0.995), truth, groups))
    alone = decision_curve(labelled(np.full(20, 0.995), np.arange(20) < 8))
    np.testing.assert_allclose(grouped.high - grouped.low, alone.high - alone.low, rtol=0.1)


def test_a_perfect_model_is_useful_as_far_as_its_images_tell() -> None:
    """Beyond a threshold of 96 % one false alarm, which 100 negative images can't exclude, outweighs 24 true positives."""
    truth = np.arange(200) % 2 == 0
    curve = decision_curve(labelled(np.where(truth, 1 - 1e-9, 1e-9), truth))
    np.testing.assert_allclose(curve.model, 0.5)
    low, most = proportion_confint(100, 200, method="wilson")[0], proportion_confint(0, 200, method="wilson")[1]
    odds = curve.thresholds / (1 - curve.thresholds)
    np.testing.assert_allclose(curve.low, 0.5 - np.hypot(0.5 - low, odds * most))
    first, last = curve.useful
    assert first == pytest.approx(1 - last)
    assert 0.5 - np.hypot(0.5 - low, odds[round(100 * last) - 1] * most) > 0
    assert 0.5 - np.hypot(0.5 - low, odds[round(100 * last)] * most) < 0


@pytest.mark.parametrize("n", [40, 400])
def test_bounds_hold_the_truth_where_false_alarms_are_rare(n: int) -> None:
    """One in fifty negatives is taken for a positive, which costs 49 true positives at a threshold of 98 %."""
    rng, found = np.random.default_rng(n), []
    for _ in range(200):
        truth, mistaken = rng.random(n) < 0.5, rng.random(n) < 0.02
        found.append(decision_curve(labelled(np.where(truth | mistaken, 0.999, 0.001), truth)))
    at = 97
    true_benefit = 0.5 - 49 * 0.5 * 0.02
    assert np.mean([one.low[at] <= true_benefit <= one.high[at] for one in found]) >= 0.92
    assert np.mean([one.better[at] for one in found]) <= 0.025


def test_a_model_that_knows_nothing_is_hardly_ever_called_useful() -> None:
    rng = np.random.default_rng(0)
    claimed = [decision_curve(labelled(rng.uniform(0.1, 0.3, 100), rng.random(100) < 0.2)).useful for _ in range(200)]
    assert sum(found is not None for found in claimed) <= 5  # 2.5 %


def test_three_classes_have_no_decision_curve() -> None:
    of_three = LabelledPredictions(np.array([0]), np.full((1, 3), 1 / 3), np.array([0]), 0, None)
    with pytest.raises(ValueError, match="needs two classes, not 3"):
        decision_curve(of_three)
