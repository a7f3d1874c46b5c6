"""Answers with a promise: p-values against MAPIE's, the promise by simulation, small cases by hand."""

import numpy as np
import pytest
from scipy.stats import binom

from raylight.evaluation.abstention import answered_of, answers, choose_confidence, confidence_of, smallest_number
from raylight.evaluation.predictions import LabelledPredictions


def sample(confidence, right, groups=None) -> LabelledPredictions:
    """Images that are all said to be the second class."""
    sure, right = np.asarray(confidence, np.float64), np.asarray(right, bool)
    both = np.stack([1 - sure, sure], axis=1)
    return LabelledPredictions(right.astype(np.int64), both, np.ones(len(sure), np.int64), 1, groups)


def test_the_p_value_is_mapies_without_its_factor() -> None:
    """MAPIE 1.6's ``compute_hoeffding_bentkus_p_value``, e times a binomial's: 4 mistakes in 1,000 at 1 %, 3 in 200 at 5 %."""
    for mistakes, n, risk, mapie in ((4, 1000, 0.01, 0.07797772), (3, 200, 0.05, 0.02459604)):
        assert np.e * binom.cdf(mistakes, n, risk) == pytest.approx(mapie, abs=1e-7)
        assert smallest_number(1 - risk, mistakes, mapie / np.e * (1 + 1e-6)) == n


def test_two_hundred_and_ninety_nine_right_answers_promise_99_percent() -> None:
    """0.99 ** 299 is the first power below 5 %."""
    assert 0.99**299 < 0.05 < 0.99**298
    sure = np.linspace(0.99, 0.6, 299)
    assert choose_confidence(sample(sure, np.ones(299)), None, 0.99).confidence == pytest.approx(0.6)
    few = choose_confidence(sample(sure[:298], np.ones(298)), None, 0.99)
    assert (few.confidence, few.answered, few.n, few.needed) == (None, 0.0, 298, 299)


def test_the_sequence_ends_before_the_answers_become_too_bad() -> None:
    sure = np.linspace(0.99, 0.51, 400)
    right = np.arange(400) < 250
    found = choose_confidence(sample(sure, right), None, 0.9)
    n = round(found.answered * 400)
    level = 0.05 / 3
    assert found.confidence == pytest.approx(sure[n - 1])
    assert binom.cdf(n - 250, n, 0.1) <= level < binom.cdf(n + 1 - 250, n + 1, 0.1)


@pytest.mark.parametrize(("target", "n"), [(0.9, 200), (0.95, 500)])
def test_the_promise_is_kept(target: float, n: int) -> None:
    """Answers are right as often as they are sure; at most 5 % of validation sets may promise too much."""
    rng = np.random.default_rng(0)
    everybody = 0.5 + rng.beta(5, 1, 200_000) / 2
    broken = answered = 0
    for _ in range(200):
        sure = 0.5 + rng.beta(5, 1, n) / 2
        found = choose_confidence(sample(sure, rng.random(n) < sure), None, target)
        if found.confidence is not None:
            answered += 1
            broken += everybody[everybody >= found.confidence].mean() < target
    assert answered > 100
    assert broken / 200 <= 0.05 + 2 * (0.05 * 0.95 / 200) ** 0.5


def test_a_group_counts_once_and_is_wrong_from_its_first_mistake_on() -> None:
    sure, groups = (
        np.repeat(np.linspace(0.99, 0.6, 100), 3) - np.tile([0, 0.001, 0.002], 100),
        np.repeat(np.arange(100), 3),
    )
    assert choose_confidence(sample(sure, np.ones(300), groups), None, 0.99).confidence is None
    found = choose_confidence(sample(sure, np.ones(300), groups), None, 0.9)
    assert (found.n, found.answered) == (100, 1.0)
    wrong_last = np.arange(300) % 3 != 2  # one image of each patient: no patient is right
    assert choose_confidence(sample(sure, wrong_last, groups), None, 0.9).confidence is None


def test_confidence_is_measured_from_the_threshold() -> None:
    probabilities = np.array([[0.8, 0.2], [0.95, 0.05]])
    found = confidence_of(probabilities, 1, 0.1)
    odds = np.array([0.2 / 0.8, 0.05 / 0.95]) / (0.1 / 0.9)
    assert found == pytest.approx([odds[0] / (1 + odds[0]), 1 / (1 + odds[1])])
    assert confidence_of(np.array([[0.2, 0.5, 0.3]]), 0) == pytest.approx([0.5])
    assert answers(probabilities, 1, 0.1, found.max()).tolist() == [True, False]
    assert not answers(probabilities, 1, 0.1, None).any()


def test_what_became_of_the_promise_is_told() -> None:
    chosen = choose_confidence(sample(np.linspace(0.99, 0.6, 299), np.ones(299)), None, 0.99)
    test = sample([0.9, 0.9, 0.7, 0.55], [1, 0, 1, 1])
    found = answered_of(chosen, test, None)
    assert (found.n, found.total, found.right) == (3, 4, pytest.approx(2 / 3))
    assert found.sentence().startswith(
        "Answers 75% of the test images, 0.667 of them correctly (0.208 to 0.939, n = 3); guaranteed"
    )
    assert "chosen the epoch on the same validation images" in found.sentence()
    assert found.as_json()["test_right"]["n"] == 3
    none = answered_of(choose_confidence(test, None, 0.99), test, None)
    assert none.sentence().startswith(
        "decision.abstain=0.99 can't be guaranteed by 4 validation images: it needs at least 299"
    )
