"""Recipes over seeds and images: against Welch's test, formulas worked out by hand, and by simulation."""

import math

import numpy as np
import pytest
from experiments.coverage.recipes import _false_alarm, _mean_held
from scipy.stats import t, ttest_ind

from raylight.evaluation.differences import random_effects
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


def test_shared_images_are_allowed_for_by_their_covariances() -> None:
    """Obuchowski and Rockette's variance of a difference, of covariances by leaving out one image at a time."""
    rng = np.random.default_rng(8)
    names = [str(i) for i in range(24)]
    right = [rng.uniform(size=(3, 24)) < 0.7, rng.uniform(size=(2, 24)) < 0.85]
    found = compare_recipes(*([judged(run, names) for run in recipe] for recipe in right))["accuracy"]
    outcomes = np.concatenate(right).astype(float)
    left_out = (outcomes.sum(axis=1, keepdims=True) - outcomes) / 23
    shifts = left_out - outcomes.mean(axis=1, keepdims=True)
    covariance = 23 / 24 * shifts @ shifts.T

    def between(block: np.ndarray) -> float:
        return float(block[~np.eye(len(block), dtype=bool)].mean())

    shared = between(covariance[:3, :3]) + between(covariance[3:, 3:]) - 2 * covariance[:3, 3:].mean()
    seeds = [outcomes[:3].mean(axis=1).var(ddof=1) / 3, outcomes[3:].mean(axis=1).var(ddof=1) / 2]
    variance = sum(seeds) + max(shared, 0)
    freedom = variance**2 / (seeds[0] ** 2 / 2 + seeds[1] ** 2 / 1)
    value = outcomes[3:].mean() - outcomes[:3].mean()
    assert found.value == pytest.approx(value)
    assert found.p_value == pytest.approx(2 * t.sf(abs(value) / math.sqrt(variance), freedom))
    half = t.ppf(0.975, freedom) * math.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((max(value - half, -1), min(value + half, 1)))


def test_two_single_runs_have_the_images_alone() -> None:
    rng = np.random.default_rng(9)
    names = [str(i) for i in range(30)]
    right = rng.uniform(size=(2, 30)) < [[0.6], [0.8]]
    found = compare_recipes([judged(right[0], names)], [judged(right[1], names)])["accuracy"]
    net = right[1].astype(float) - right[0]
    error = net.std(ddof=1) / math.sqrt(30)  # the jackknife of a mean
    assert found.value == pytest.approx(net.mean())
    assert found.low == pytest.approx(net.mean() - t.ppf(0.975, 29) * error)
    assert found.p_value == pytest.approx(2 * t.sf(abs(net.mean()) / error, 29))


@pytest.mark.parametrize("name", ["accuracy", "mcc", "brier"])
def test_a_mean_of_runs_has_both_sources_of_chance_at_their_full_width(name: str) -> None:
    runs_of = [
        {"value": v, "low": v - down, "high": v + up}
        for v, down, up in ((0.5, 0.1, 0.05), (0.6, 0.2, 0.15), (0.7, 0.3, 0.1))
    ]
    found = spread(name, runs_of)
    s = np.std([0.5, 0.6, 0.7], ddof=1)
    assert (found.mean, found.deviation) == (pytest.approx(0.6), pytest.approx(s))
    least, most = {"accuracy": (0, 1), "mcc": (-1, 1), "brier": (0, 2)}[name]
    for interval, k in (((found.low, found.high), 3), (found.next, 4)):
        between = t.ppf(0.975, k - 1) * s / math.sqrt(k)
        expected = (max(least, 0.6 - math.hypot(between, 0.2)), min(most, 0.6 + math.hypot(between, 0.1)))
        assert interval == pytest.approx(expected)


def test_runs_without_values_or_bounds_are_left_aside() -> None:
    nothing = spread("f1", [None, {"value": None, "low": None, "high": None}])
    assert (nothing.values, nothing.mean, nothing.low, nothing.next, nothing.worth_another) == (
        (),
        None,
        None,
        None,
        None,
    )
    unbounded = spread("f1", [{"value": 0.5, "low": None, "high": None}, {"value": 0.7, "low": None, "high": None}])
    assert (unbounded.mean, unbounded.deviation, unbounded.low) == (pytest.approx(0.6), pytest.approx(0.02**0.5), None)
    # Bounds of those that have them, values of all.
    some = spread("f1", [{"value": 0.5, "low": 0.4, "high": 0.6}, {"value": 0.5, "low": None, "high": 0.9}])
    assert (some.low, some.high) == pytest.approx((0.4, 0.6))


def test_many_images_are_left_out_in_blocks_the_same_for_all_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [str(i) for i in range(1000)]
    right = np.random.default_rng(0).uniform(size=(2, 1000)) < 0.8
    whole = compare_recipes([judged(right[0], names)], [judged(right[1], names)])["accuracy"]
    monkeypatch.setattr(random_effects, "CHUNK_ELEMENTS", 5000)
    assert compare_recipes([judged(right[0], names)], [judged(right[1], names)])["accuracy"] == whole
    net = right[1].astype(float) - right[0]
    assert whole.high - whole.low == pytest.approx(2 * 1.96 * net.std() / math.sqrt(1000), rel=0.1)
    # Another order of the second run's images is the same comparison.
    order = np.random.default_rng(1).permutation(500) * 2
    order = np.concatenate([order, order + 1])
    shuffled = judged(right[1], names).predictions.where(np.ones(1000, bool))
    moved = Predictions(
        [names[i] for i in order],
        ["test"] * 1000,
        shuffled.labels[order],
        shuffled.probabilities[order],
        ("cat", "dog"),
        "dog",
    )
    again = compare_recipes([judged(right[0], names)], [RunPredictions(moved, None)])["accuracy"]
    assert (again.value, again.low, again.p_value) == pytest.approx((whole.value, whole.low, whole.p_value))


def test_a_runs_own_threshold_decides() -> None:
    names = [str(i) for i in range(20)]
    first = judged(np.arange(20) >= 4, names)
    second = RunPredictions(first.predictions, 0.95)  # nothing is predicted positive any more
    found = compare_recipes([first], [second])
    assert found["recall"].value == pytest.approx(-accuracy_of_dogs(first))
    assert found["auroc"].value == 0


def accuracy_of_dogs(run: RunPredictions) -> float:
    dogs = run.predictions.labels == 1
    return float((run.predictions.predicted()[dogs] == 1).mean())


def test_two_pairs_of_splits_are_the_fewest_and_the_shares_count() -> None:
    names = [str(i) for i in range(20)]
    first = [judged(np.arange(20) >= wrong, names) for wrong in (2, 5)]
    second = [judged(np.arange(20) >= wrong, names) for wrong in (1, 1)]
    differences = np.array([0.05, 0.2])
    for share in (0.0, 0.5):
        error = math.sqrt(differences.var(ddof=1) * (1 / 2 + share))
        found = compare_by_split(first, second, share)["accuracy"]
        assert found.p_value == pytest.approx(2 * t.sf(0.125 / error, 1))
        assert found.high == pytest.approx(min(0.125 + t.ppf(0.975, 1) * error, 1))
