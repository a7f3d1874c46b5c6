import dataclasses

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar as reference_mcnemar
from statsmodels.stats.multitest import multipletests

from raylight.errors import RunError
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.paired import aligned, compare, holm, mcnemar
from raylight.evaluation.predictions import Predictions


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


@pytest.mark.parametrize(("only_first", "only_second"), [(3, 11), (0, 6), (7, 7), (1, 0), (0, 0)])
def test_mcnemar_agrees_with_statsmodels(only_first, only_second):
    first = np.r_[np.ones(20 + only_first, bool), np.zeros(only_second + 5, bool)]
    second = np.r_[np.ones(20, bool), np.zeros(only_first, bool), np.ones(only_second, bool), np.zeros(5, bool)]
    expected = reference_mcnemar([[20, only_first], [only_second, 5]], exact=True).pvalue
    assert mcnemar(first, second) == pytest.approx(min(expected, 1.0))
    # Groups of one image each are no groups.
    assert mcnemar(first, second, np.arange(len(first))) == pytest.approx(min(expected, 1.0))


def test_groups_that_disagree_together_are_one_disagreement():
    first = np.r_[np.ones(8, bool), np.zeros(2, bool)]
    second = ~first
    copies = np.repeat(np.arange(10), 4)
    alone, together = mcnemar(first, second), mcnemar(np.repeat(first, 4), np.repeat(second, 4), copies)
    assert together == pytest.approx(alone)
    assert mcnemar(np.repeat(first, 4), np.repeat(second, 4)) < 0.001 < alone


def test_holm_agrees_with_statsmodels_and_keeps_what_is_not_defined():
    values = [0.01, 0.04, 0.03, 0.005, 0.9]
    assert holm(values) == pytest.approx(multipletests(values, method="holm")[1])
    corrected = holm([0.01, float("nan"), 0.02])
    assert corrected[0] == pytest.approx(0.02)
    assert corrected[2] == pytest.approx(0.02)
    assert np.isnan(corrected[1])
    assert holm([]) == []


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
    for name in ("auroc", "brier", "mcc"):
        widths = [(lambda e: e.high - e.low)(evaluate(model)[name]) for model in (first, second)]
        assert differences[name].high - differences[name].low < 0.85 * np.hypot(*widths), name


def test_equal_models_are_rarely_found_different():
    accused = {"accuracy": 0, "auroc": 0, "brier": 0}
    for seed in range(60):
        comparison = compare(*pair(60, seed=seed), n_resamples=200)
        for name in accused:
            difference = comparison.differences[name]
            accused[name] += not difference.low <= 0 <= difference.high
    assert max(accused.values()) <= 9, accused


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
