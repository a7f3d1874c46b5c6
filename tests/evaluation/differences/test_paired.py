import dataclasses

import numpy as np
import pytest
from experiments.coverage.settings import PAIRS
from scipy.special import logit
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar

from raylight.config.rules.metric_names import METRICS
from raylight.errors import RunError
from raylight.evaluation import intervals
from raylight.evaluation.bootstrap import bca, bootstrap, left_out_weights, n_units
from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.differences.paired import aligned, compare, holm, proportion_difference
from raylight.evaluation.differences.swap_test import critical_difference, swap_p_value, swapped_differences
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import Predictions
from raylight.evaluation.zero_events import with_added_disagreements


def predictions(labels, scores, groups=None, names=("cat", "dog")):
    n = len(labels)
    p = 1 / (1 + np.exp(-np.asarray(scores)))
    probabilities = np.stack([1 - p, p], axis=1)
    paths = tuple(f"{i}.jpg" for i in range(n))
    return Predictions(paths, ("test",) * n, np.asarray(labels), probabilities, names, names[1], groups)


def pair(n, better=0.0, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 2
    shared = 2.0 * (labels - 0.5) + 0.8 * rng.normal(size=n)
    noise = 0.6 * rng.normal(size=(2, n))
    return predictions(labels, shared + noise[0]), predictions(labels, shared + better * (labels - 0.5) + noise[1])


def outcomes(only_first, only_second, both=20, neither=5):
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(("only_first", "only_second"), [(3, 11), (0, 6), (7, 7), (1, 0)])
def test_the_p_value_of_accuracy_is_statsmodels_mcnemar(only_first, only_second):
    first, second = outcomes(only_first, only_second)
    table = [[20, only_first], [only_second, 5]]
    expected = reference_mcnemar(table, exact=False, correction=False).pvalue
    difference = proportion_difference(first, second)
    assert difference.p_value == pytest.approx(expected, abs=1e-12)
    assert difference.value == pytest.approx((only_second - only_first) / len(first))
    # Groups of one image each are no groups.
    assert proportion_difference(first, second, np.arange(len(first))) == pytest.approx(difference)


def test_groups_that_disagree_together_are_one_disagreement():
    first, second = outcomes(3, 11)
    groups = np.repeat(np.arange(len(first)), 4)
    alone = proportion_difference(first, second)
    together = proportion_difference(np.repeat(first, 4), np.repeat(second, 4), groups)
    assert dataclasses.astuple(together) == pytest.approx(dataclasses.astuple(alone))
    assert proportion_difference(np.repeat(first, 4), np.repeat(second, 4)).p_value < 0.001 < alone.p_value


def test_holm_multiplies_by_what_is_left_and_keeps_what_is_not_defined():
    # In order: 0.005 * 5, 0.01 * 4, 0.03 * 3, 0.04 * 2 (not below the one before), 0.9 * 1.
    assert holm([0.01, 0.04, 0.03, 0.005, 0.9]) == pytest.approx([0.04, 0.09, 0.09, 0.025, 0.9])
    corrected = holm([0.01, float("nan"), 0.02])
    assert corrected[0] == pytest.approx(0.02)
    assert corrected[2] == pytest.approx(0.02)
    assert np.isnan(corrected[1])
    assert holm([]) == []
    assert holm([0.3]) == [0.3]


def test_a_better_model_is_found_better():
    first, second = pair(400, better=2.0)
    comparison = compare(first, second)
    assert comparison.both + comparison.only_first + comparison.only_second + comparison.neither == 400
    accuracy = comparison.differences["accuracy"]
    assert accuracy.value == pytest.approx((comparison.only_second - comparison.only_first) / 400)
    assert comparison.p_value == accuracy.p_value < 0.01
    for name in ("accuracy", "auroc", "f1", "mcc", "balanced_accuracy"):
        difference = comparison.differences[name]
        assert 0 < difference.low < difference.value < difference.high, name
        assert difference.p_value < 0.01, name
    assert comparison.differences["brier"].high < 0


def test_pairing_knows_more_than_two_separate_intervals():
    first, second = pair(400)
    differences = compare(first, second).differences
    for name in ("auroc", "brier"):
        widths = [(lambda e: e.high - e.low)(evaluate(model)[name]) for model in (first, second)]
        assert differences[name].high - differences[name].low < 0.85 * np.hypot(*widths), name


def test_equal_models_are_rarely_found_different_and_intervals_agree_with_p_values():
    accused = dict.fromkeys(METRICS, 0)
    for seed in range(60):
        for name, difference in compare(*pair(60, seed=seed), n_resamples=200).differences.items():
            excluded = not difference.low <= 0 <= difference.high
            accused[name] += excluded
            if not np.isnan(difference.p_value):
                assert excluded == (difference.p_value < 0.05), (name, difference)
    # Of 60, 5 % are 3; one in a thousand sees 9 or more.
    assert max(accused.values()) <= 8, accused


def test_rankings_that_are_nearly_perfect_differ_by_more_than_a_sample_shows():
    """Two models of average precision .998 and .999 on 200 images; the bootstrap alone holds their difference in 86 %."""
    setting = next(one for one in PAIRS if one.name.endswith("the second slightly better"))
    first, second = setting.population.truth(setting.models)
    truth = second["average_precision"] - first["average_precision"]
    rng, held, defined = np.random.default_rng(5), 0, 0
    for _ in range(60):
        seen = setting.population.draw(setting.n, setting.models, rng)
        found = compare(*seen, n_resamples=200).differences["average_precision"]
        defined += not np.isnan(found.low)
        held += found.low <= truth <= found.high
    assert held / defined > 0.95  # 58 of 59; the bootstrap holds 55


def test_many_images_of_one_patient_are_exchanged_together():
    first, second = pair(60, better=1.0)
    copies = [
        predictions(
            np.repeat(one.labels, 4), np.repeat(logit(one.probabilities[:, 1]), 4), np.repeat(np.arange(60), 4).tolist()
        )
        for one in (first, second)
    ]
    alone = compare(first, second).differences
    together = compare(*copies).differences
    for name in ("accuracy", "auroc", "brier", "f1", "mcc"):
        assert together[name].p_value == pytest.approx(alone[name].p_value, abs=0.01), name
        width = alone[name].high - alone[name].low
        assert together[name].high - together[name].low == pytest.approx(width, rel=0.12), name


def test_rankings_are_compared_whatever_the_scale_of_the_scores():
    first, second = pair(80, better=1.0)
    squeezed = predictions(second.labels, 0.01 * logit(second.probabilities[:, 1]) - 3)
    plain, other = compare(first, second).differences, compare(first, squeezed).differences
    for name in ("auroc", "average_precision"):
        assert dataclasses.astuple(other[name]) == pytest.approx(dataclasses.astuple(plain[name])), name


def test_the_calibration_error_has_bounds_but_no_test():
    difference = compare(*pair(60)).differences["ece"]
    assert np.isnan(difference.p_value)
    assert difference.low < difference.value < difference.high


def test_models_that_never_disagree_may_still_differ():
    first, _ = pair(40)
    comparison = compare(first, first)
    accuracy = comparison.differences["accuracy"]
    assert (comparison.only_first, comparison.only_second, comparison.p_value) == (0, 0, 1)
    assert (accuracy.value, accuracy.high) == (0, pytest.approx(-accuracy.low))
    assert accuracy.high == pytest.approx(1 - 40 / (40 + 1.959964**2), abs=1e-6)
    assert np.isnan(comparison.differences["auroc"].low)


def test_images_are_matched_by_name_not_by_order():
    first, second = pair(50, better=1.0)
    order = np.random.default_rng(1).permutation(50)
    shuffled = dataclasses.replace(
        second,
        paths=tuple(second.paths[i] for i in order),
        labels=second.labels[order],
        probabilities=second.probabilities[order],
    )
    assert np.array_equal(aligned(first, shuffled).probabilities, second.probabilities)
    assert compare(first, shuffled, n_resamples=50) == compare(first, second, n_resamples=50)


def test_thresholds_are_each_models_own():
    first, _ = pair(100)
    comparison = compare(first, first, thresholds=(0.5, 0.9), n_resamples=50)
    assert comparison.differences["recall"].value < 0
    assert comparison.differences["auroc"].value == 0


def test_runs_that_cannot_be_compared_say_how_they_differ():
    first, second = pair(10)
    fewer = second.where(np.arange(10) < 8)
    with pytest.raises(RunError, match=r"8 are shared, 2 are only in the first run, 0 only in the second \('8.jpg'"):
        compare(first, fewer)
    with pytest.raises(RunError, match=r"8 are shared, 0 are only in the first run, 2 only in the second \('8.jpg'"):
        compare(fewer, second)
    relabelled = dataclasses.replace(second, labels=np.where(np.arange(10) == 3, 0, second.labels))
    with pytest.raises(RunError, match=r"1 of 10 images have another class in the second run \('3.jpg'"):
        compare(first, relabelled)
    with pytest.raises(RunError, match=r"of the classes cat, dog \(positive: dog\) with one of cat, cow"):
        compare(first, predictions(second.labels, np.zeros(10), names=("cat", "cow")))


def by_the_table(first, second, name, n_resamples=300, seed=4):
    """The interval of a difference, put together as the module's table says, from the parts that have tests of their own."""
    models = [first.labelled(), second.labelled()]
    values = [{k: float(v[0]) for k, v in WeightedMetrics(m)(np.ones((1, len(first)))).items()} for m in models]
    value = values[1][name] - values[0][name]
    drawn = bootstrap([WeightedMetrics(m) for m in models], len(first), models[0].groups, n_resamples, seed)
    swapped = swapped_differences(*models, n_resamples - 1, seed)[name]
    p_value, reach = swap_p_value(value, swapped), critical_difference(swapped)
    own = [evaluate(m, n_resamples=n_resamples, seed=seed)[name] for m in (first, second)]

    def recovered(correlation):
        def width(down, up):
            return np.sqrt(down**2 + up**2 - 2 * correlation * down * up)

        return (
            value - width(own[1].value - own[1].low, own[0].high - own[0].value),
            value + width(own[1].high - own[1].value, own[0].value - own[0].low),
        )

    if name == "ece":
        return recovered(0.0)
    if name in ("auroc", "average_precision"):
        varies = min(np.ptp(drawn[0][name]), np.ptp(drawn[1][name])) > 1e-6  # a perfect ranking doesn't
        low, high = recovered(np.corrcoef(drawn[0][name], drawn[1][name])[0, 1] if varies else 0.0)
    else:
        left_out = left_out_weights(models[0].labels, models[0].groups)
        jackknife = [WeightedMetrics(m)(left_out)[name] for m in models]
        units = n_units(models[0].groups, len(first))
        low, high = bca(value, drawn[1][name] - drawn[0][name], jackknife[1] - jackknife[0], units)
    low, high = min(low, value - reach), max(high, value + reach)
    if name not in ("auroc", "average_precision", "brier"):
        moves = [one[name] - value for one in with_added_disagreements(*models)]
        low, high = value - np.hypot(value - low, min(moves)), value + np.hypot(high - value, max(moves))
    if p_value >= 0.05:
        low, high = min(low, 0), max(high, 0)
    elif value > 0:
        low = max(low, value * 1e-6)
    else:
        high = min(high, value * 1e-6)
    most = 2.0 if name in ("mcc", "brier") else 1.0
    return max(low, -most), min(high, most)


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("better", [0.3, 2.5])
def test_each_interval_is_put_together_as_the_table_says(better, grouped):
    first, second = pair(60, better=better, seed=3)
    if grouped:
        groups = tuple(str(i // 2) for i in range(60))
        first, second = (dataclasses.replace(one, groups=groups) for one in (first, second))
    differences = compare(first, second, n_resamples=300, seed=4).differences
    for name in METRICS:
        if name not in ("accuracy", "recall", "specificity", "average_precision"):
            found = differences[name]
            assert (found.low, found.high) == pytest.approx(by_the_table(first, second, name), abs=1e-6), name


@pytest.mark.parametrize("positive", [0, 1])
def test_recall_and_specificity_are_compared_among_their_own_images(positive):
    first, second = pair(80, better=1.0)
    first, second = (dataclasses.replace(one, positive_class=("cat", "dog")[positive]) for one in (first, second))
    differences = compare(first, second, n_resamples=50).differences
    right = [one.predicted() == one.labels for one in (first, second)]
    for name, kind in (("recall", positive), ("specificity", 1 - positive)):
        among = first.labels == kind
        expected = proportion_difference(right[0][among], right[1][among])
        assert dataclasses.astuple(differences[name])[:4] == pytest.approx(dataclasses.astuple(expected)[:4])
    comparison = compare(first, second, n_resamples=50)
    counts = [(right[0] & right[1]).sum(), (right[0] & ~right[1]).sum(), (~right[0] & right[1]).sum()]
    assert (comparison.both, comparison.only_first, comparison.only_second) == tuple(counts)
    assert comparison.neither == 80 - sum(counts)


def test_without_images_a_difference_is_not_defined():
    nothing = np.zeros(0, bool)
    assert np.isnan(dataclasses.astuple(proportion_difference(nothing, nothing))[:4]).all()


def test_groups_count_at_least_as_independent_groups_and_at_most_as_their_images():
    first, second = outcomes(3, 11)
    n, groups = len(first), np.arange(len(first)) // 3
    net = second.astype(int) - first.astype(int)
    sums = [net[groups == group].sum() for group in np.unique(groups)]
    share = np.clip(14 / np.sum(np.square(sums)), intervals.independent_groups(groups) / n, 1)
    found = proportion_difference(first, second, groups)
    assert found.p_value == pytest.approx(2 * norm.sf(abs(8) * np.sqrt(share / 14)))
    assert (found.low, found.high) == pytest.approx(intervals.tango(11 * share, 3 * share, n * share))
    # No disagreement: as many as there are independent groups.
    same = proportion_difference(first, first, groups)
    assert same.high == pytest.approx(intervals.tango(0, 0, intervals.independent_groups(groups)).high)
    assert same.p_value == 1
