"""Recipes over seeds and images: against Welch's test, formulas worked out by hand, and by simulation."""

import math

import numpy as np
import pytest
from experiments.coverage.recipes import _false_alarm, _mean_held
from scipy.stats import t, ttest_ind

from raylight.evaluation.differences.random_effects import RunPredictions, compare_by_split, compare_recipes, spread
from raylight.evaluation.predictions import Predictions


def judged(right: np.ndarray, names: list[str]) -> RunPredictions:
    labels = np.arange(len(right)) % 2
    probability = np.where(right == (labels == 1), 0.9, 0.1)
    pairs = np.stack([1 - probability, probability], axis=1)
    return RunPredictions(Predictions(names, ["test"] * len(names), labels, pairs, ("cat", "dog"), "dog"), None)


def runs(rng: np.random.Generator, recipe: str, accuracies: list[float], n: int = 50) -> list[RunPredictions]:
    """Runs that are each tested on images of their own."""
    return [
        judged(rng.uniform(size=n) < one, [f"{recipe}{number} {i}" for i in range(n)])
        for number, one in enumerate(accuracies)
    ]


def accuracy(one: RunPredictions) -> float:
    return float((one.predictions.predicted() == one.predictions.labels).mean())


def test_without_shared_images_it_is_welchs_test() -> None:
    rng = np.random.default_rng(3)
    first, second = runs(rng, "a", [0.6, 0.7, 0.9]), runs(rng, "b", [0.7, 0.9])
    found = compare_recipes(first, second)["accuracy"]
    expected = ttest_ind([accuracy(one) for one in second], [accuracy(one) for one in first], equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-6)
    low, high = expected.confidence_interval()
    assert (found.low, found.high) == (pytest.approx(max(low, -1), abs=1e-6), pytest.approx(min(high, 1), abs=1e-6))


def test_a_single_run_is_taken_to_vary_as_the_other_recipe_does() -> None:
    rng = np.random.default_rng(4)
    (alone,), several = runs(rng, "a", [0.7]), runs(rng, "b", [0.6, 0.7, 0.9])
    found = compare_recipes([alone], several)["accuracy"]
    values = [accuracy(one) for one in several]
    images = accuracy(alone) * (1 - accuracy(alone)) / 49
    seeds = np.var(values, ddof=1) * (1 + 1 / 3)
    freedom = (seeds + images) ** 2 / (seeds**2 / 2)
    value = np.mean(values) - accuracy(alone)
    assert found.p_value == pytest.approx(2 * t.sf(abs(value) / (seeds + images) ** 0.5, freedom), rel=1e-3)


def test_groups_are_left_out_as_a_whole() -> None:
    """Ten images of each patient that are all alike tell as much as one of each."""
    rng = np.random.default_rng(5)
    right = rng.uniform(size=(2, 2, 30)) < 0.8
    names = [f"{i}" for i in range(30)]
    plain = [[judged(run, names) for run in recipe] for recipe in right]

    def grown(run: np.ndarray) -> RunPredictions:
        # Each patient has images of one class, as its single image had.
        labels = np.repeat(np.arange(30) % 2, 10)
        probability = np.where(np.repeat(run, 10) == (labels == 1), 0.9, 0.1)
        pairs = np.stack([1 - probability, probability], axis=1)
        paths, groups = [f"{i}" for i in range(300)], [f"patient {i // 10}" for i in range(300)]
        return RunPredictions(Predictions(paths, ["test"] * 300, labels, pairs, ("cat", "dog"), "dog", groups), None)

    one = compare_recipes(plain[0], plain[1])["accuracy"]
    other = compare_recipes([grown(run) for run in right[0]], [grown(run) for run in right[1]])["accuracy"]
    assert other.p_value == pytest.approx(one.p_value)
    assert other.low == pytest.approx(one.low)


def test_what_never_varies_has_no_interval() -> None:
    perfect = [judged(np.ones(20, bool), [str(i) for i in range(20)]) for _ in range(2)]
    found = compare_recipes(perfect, perfect)["accuracy"]
    assert found.value == 0
    assert math.isnan(found.p_value)


def test_the_corrected_resampled_t_test() -> None:
    names = [str(i) for i in range(20)]
    first = [judged(np.arange(20) >= wrong, names) for wrong in (2, 4, 3)]
    second = [judged(np.arange(20) >= wrong, names) for wrong in (1, 1, 2)]
    differences = np.array([0.05, 0.15, 0.05])
    found = compare_by_split(first, second, 0.125)["accuracy"]
    error = differences.std(ddof=1) * (1 / 3 + 0.125) ** 0.5
    assert found.p_value == pytest.approx(2 * t.sf(differences.mean() / error, 2))
    assert found.low == pytest.approx(differences.mean() - t.ppf(0.975, 2) * error)


def test_a_third_run_is_told_with_two_only_and_where_it_helps() -> None:
    def over(*values: float) -> object:
        return spread("accuracy", [{"value": v, "low": v - 0.05, "high": v + 0.05} for v in values]).worth_another

    third = over(0.7, 0.74)
    error = np.std([0.7, 0.74], ddof=1) / 3**0.5
    assert third == pytest.approx(
        (0.72 - np.hypot(t.ppf(0.975, 2) * error, 0.05), 0.72 + np.hypot(t.ppf(0.975, 2) * error, 0.05))
    )
    assert over(0.7, 0.7) is None  # a third run of the same accuracy would change nothing
    assert over(0.7, 0.74, 0.72) is None
    assert over(0.7) is None


@pytest.mark.parametrize(
    ("n", "runs_each", "deviation"), [(40, 3, 0.0), (200, 3, 0.01), (2000, 2, 0.03), (2000, 5, 0.03)]
)
def test_equal_recipes_are_told_apart_in_five_of_a_hundred(n: int, runs_each: int, deviation: float) -> None:
    """5 +- 2 % in truth; the test allows for 600 repetitions' own chance (two standard errors)."""
    rng = np.random.default_rng(0)
    alarms = np.mean([_false_alarm(rng, n, runs_each, deviation) for _ in range(600)])
    assert 0.013 < alarms < 0.088


def test_the_interval_of_a_mean_holds_it() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([_mean_held(rng, 2000, 2, 0.03) for _ in range(400)]) > 0.92


def test_a_single_run_keeps_its_own_interval_and_has_no_spread() -> None:
    found = spread(
        "mcc", [{"value": 0.1, "low": -0.3, "high": 0.5, "n": 9}, {"value": None, "low": None, "high": None}]
    )
    assert (found.mean, found.deviation, found.low, found.high, found.values) == (0.1, None, -0.3, 0.5, (0.1,))


def test_intervals_stay_in_the_metrics_range() -> None:
    two = [{"value": value, "low": value - 0.01, "high": value + 0.01, "n": 9} for value in (0.1, 0.9)]
    assert (spread("accuracy", two).low, spread("accuracy", two).high) == (0, 1)
    assert (spread("mcc", two).low, spread("brier", two).high) == (-1, 2)
