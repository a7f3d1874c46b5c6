"""The paired difference of a user's metric, against scipy's permutation test and the plain paired mean."""

import numpy as np
import pytest
from scipy.stats import permutation_test

from raylight.evaluation.definitions.own import OwnMetrics
from raylight.evaluation.differences.own import own_differences
from raylight.evaluation.predictions import Predictions


class Confidence:
    """Mean probability of the true class."""

    def __call__(self, probabilities, classes):  # type: ignore[no-untyped-def]
        return probabilities.gather(1, classes[:, None]).mean()


def predictions(sureness: np.ndarray) -> Predictions:
    """Two classes in turns, each given a probability."""
    labels = np.arange(len(sureness)) % 2
    probabilities = np.column_stack(
        [np.where(labels == 0, sureness, 1 - sureness), np.where(labels == 1, sureness, 1 - sureness)]
    )
    paths = [f"{number}.png" for number in range(len(sureness))]
    return Predictions(paths, ["test"] * len(paths), labels, probabilities, ["a", "b"], "b")


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> OwnMetrics:
    monkeypatch.setenv("RAYLIGHT_ALLOWED_TARGETS", "tests")
    nodes = {"confidence": {"_target_": f"{__name__}.Confidence"}}
    return OwnMetrics(nodes | {"f2": {"_target_": "torchmetrics.classification.BinaryFBetaScore", "beta": 2.0}}, 2, 1)


@pytest.mark.parametrize("gain", [0.0, 0.02, 0.06])
def test_value_and_p_value_are_those_of_a_paired_permutation_test(metrics: OwnMetrics, gain: float) -> None:
    random = np.random.default_rng(3)
    first = random.uniform(0.3, 0.7, 60)
    second = np.clip(first + gain + random.normal(0, 0.1, 60), 0.01, 0.99)
    found = own_differences(predictions(first), predictions(second), metrics)["confidence"]
    assert found.value == pytest.approx((second - first).mean(), abs=1e-6)

    def mean_difference(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        return (one - other).mean(axis=axis)

    expected = permutation_test(
        (second, first), mean_difference, permutation_type="samples", vectorized=True, n_resamples=20_000, rng=1
    )
    assert found.p_value == pytest.approx(expected.pvalue, abs=0.04)
    assert found.low < found.value < found.high
    assert (found.low > 0 or found.high < 0) == (found.p_value < 0.05)
    # As wide as a paired t interval, to a fifth.
    assert found.high - found.low == pytest.approx(2 * 2.0 * (second - first).std(ddof=1) / 60**0.5, rel=0.2)


def test_models_that_say_the_same_have_no_difference_to_test(metrics: OwnMetrics) -> None:
    same = predictions(np.linspace(0.2, 0.9, 20))
    for found in own_differences(same, same, metrics, n_resamples=20).values():
        assert found.value == 0
        assert np.isnan([found.low, found.high, found.p_value]).all()
