import json

import numpy as np
import pytest
import torch

from raylight.config.rules.metric_names import LABELS, METRICS
from raylight.evaluation import intervals
from raylight.evaluation.auroc import auroc_interval
from raylight.evaluation.definitions.torchmetrics import metric_collection
from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.metrics import as_json, confusion_matrix, evaluate
from raylight.evaluation.predictions import UNKNOWN, Predictions


def predictions(labels, probabilities, groups=None, positive=1):
    n, n_classes = probabilities.shape
    names = tuple("abcdefgh"[:n_classes])
    return Predictions(
        [f"{i}.png" for i in range(n)],
        ["test"] * n,
        np.asarray(labels),
        probabilities,
        names,
        names[positive],
        groups,
    )


def two(n, separation, seed=0, share=0.5, image_noise=1.0, group=1):
    """Calibrated probabilities of two normal classes; images of a group share part of their noise."""
    rng = np.random.default_rng(seed)
    labels = np.repeat((np.arange(n // group) < n // group * share).astype(int), group)
    shared = np.sqrt(1 - image_noise**2) * np.repeat(rng.normal(size=n // group), group)
    score = separation * (labels - 0.5) + shared + image_noise * rng.normal(size=len(labels))
    p = 1 / (1 + np.exp(-separation * score - np.log(share / (1 - share))))
    groups = None if group == 1 else [str(i // group) for i in range(len(labels))]
    return predictions(labels, np.stack([1 - p, p], axis=1), groups)


def three(n, separation, seed=0):
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % 3
    logits = separation * (rng.normal(size=(n, 3)) + separation * np.eye(3)[labels])
    probabilities = np.exp(logits - logits.max(axis=1, keepdims=True))
    return predictions(labels, probabilities / probabilities.sum(axis=1, keepdims=True))


@pytest.mark.parametrize("sample", [two(90, 1.5), three(90, 1.5)])
def test_values_are_those_that_training_logs(sample):
    collection = metric_collection(len(sample.class_names), 1)
    collection.update(torch.from_numpy(sample.probabilities), torch.from_numpy(sample.labels))
    expected = {name: value.item() for name, value in collection.compute().items()}
    estimates = evaluate(sample, n_resamples=50)
    assert tuple(estimates) == METRICS == tuple(LABELS)
    assert {name: estimate.value for name, estimate in estimates.items()} == pytest.approx(expected, abs=2e-5)
    assert all(estimate.low <= estimate.value <= estimate.high for estimate in estimates.values())


def test_forty_of_forty_is_certain_of_nothing():
    labels = np.arange(40) % 2
    right = np.where(labels == 1, 0.999, 0.001)
    estimates = evaluate(predictions(labels, np.stack([1 - right, right], axis=1)))
    accuracy = estimates["accuracy"]
    assert (accuracy.value, accuracy.high, accuracy.n, accuracy.method) == (1, 1, 40, "Wilson")
    assert f"{accuracy.low:.1%}" == "91.2%"
    for name in METRICS:
        estimate = estimates[name]
        width = estimate.high - estimate.low
        assert width > 0.08, name
        if name not in ("ece", "brier"):
            assert estimate.value == estimate.high == 1, name
    # The lower bound of F1 and of Matthews correlation is what 8.8 % of mistakes would make of them.
    assert estimates["f1"].low == pytest.approx(accuracy.low)
    assert estimates["mcc"].low == pytest.approx(2 * accuracy.low - 1, abs=1e-6)


def test_counts_behind_proportions_are_their_own():
    estimates = evaluate(two(60, 1.0, share=0.25))
    sample = two(60, 1.0, share=0.25)
    assert estimates["recall"].n == 15
    assert estimates["specificity"].n == 45
    assert estimates["precision"].n == (sample.predicted() == 1).sum()
    assert estimates["auroc"].n == 60


def test_the_threshold_moves_recall_against_specificity():
    sample = two(100, 1.5)
    strict, mild = evaluate(sample, 0.9, n_resamples=20), evaluate(sample, 0.1, n_resamples=20)
    assert strict["recall"].value < mild["recall"].value
    assert strict["specificity"].value > mild["specificity"].value
    assert strict["auroc"] == mild["auroc"]


@pytest.mark.parametrize("sample", [two(60, 2.0, share=0.3), three(60, 2.0), two(80, 2.2, image_noise=0.6, group=4)])
def test_intervals_cover_the_truth(sample):
    """Of 60 samples, 95 % intervals should miss about 3; one in a thousand misses 10."""
    kind = two if len(sample.class_names) == 2 else three
    n, grouped = len(sample), sample.groups is not None
    options = {"image_noise": 0.6, "group": 4} if grouped else {"share": 0.3} if kind is two else {}
    separation = 2.2 if grouped else 2.0
    crowd = kind(240_000, separation, seed=99, **options).labelled()
    truth = {name: value[0] for name, value in WeightedMetrics(crowd)(np.ones((1, len(crowd.labels)))).items()}
    missed = dict.fromkeys(METRICS, 0)
    for seed in range(60):
        for name, estimate in evaluate(kind(n, separation, seed, **options), n_resamples=300).items():
            missed[name] += not estimate.low <= truth[name] <= estimate.high
    assert max(missed.values()) <= (12 if grouped else 9), missed


def test_patients_count_not_their_images():
    sample = two(200, 2.0)
    copies = predictions(
        np.repeat(sample.labels, 5),
        np.repeat(sample.probabilities, 5, axis=0),
        [f"{i // 5}" for i in range(1000)],
    )
    careless = predictions(copies.labels, copies.probabilities)
    alone, grouped, wrong = evaluate(sample), evaluate(copies), evaluate(careless)
    for name in METRICS:
        width = alone[name].high - alone[name].low
        assert grouped[name].high - grouped[name].low == pytest.approx(width, rel=0.15), name
        assert wrong[name].high - wrong[name].low < 0.7 * width, name
    assert "of groups" in grouped["accuracy"].method


def test_what_is_not_defined_has_no_interval_and_is_null_in_json():
    labels = np.ones(10, int)
    p = np.linspace(0.1, 0.9, 10)
    estimates = evaluate(predictions(labels, np.stack([1 - p, p], axis=1)))
    undefined = {"balanced_accuracy", "specificity", "auroc", "average_precision", "mcc"}
    assert {name for name, estimate in estimates.items() if np.isnan(estimate.value)} == undefined
    assert all(np.isnan(estimates[name].low) and np.isnan(estimates[name].high) for name in undefined)
    table = json.loads(json.dumps(as_json(estimates, "test/"), allow_nan=False))
    assert table["test/auroc"] == {"value": None, "low": None, "high": None, "n": 10}
    assert table["test/accuracy"]["value"] == 0.5
    assert set(table) == {f"test/{name}" for name in METRICS}


@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_image_is_enough_for_an_answer(n_classes):
    sample = predictions([1], np.eye(n_classes)[[1]] * 0.4 + 0.6 / n_classes)
    estimates = evaluate(sample)
    assert estimates["accuracy"].value == 1
    assert estimates["accuracy"].low == pytest.approx(0.2065, abs=1e-4)


def test_images_of_unknown_class_are_left_aside():
    sample = two(50, 1.0)
    labels = sample.labels.copy()
    labels[::5] = UNKNOWN
    known = sample.where(labels != UNKNOWN)
    assert evaluate(predictions(labels, sample.probabilities), n_resamples=50) == evaluate(known, n_resamples=50)
    with pytest.raises(ValueError, match="no image of known class"):
        evaluate(predictions(np.full(50, UNKNOWN), sample.probabilities))


def test_confusion_matrix_has_the_truth_in_rows():
    probabilities = np.array([[0.7, 0.3], [0.4, 0.6], [0.2, 0.8], [0.9, 0.1]])
    sample = predictions([0, 0, 1, UNKNOWN], probabilities)
    assert confusion_matrix(sample).tolist() == [[1, 1], [0, 1]]
    assert confusion_matrix(sample, 0.7).tolist() == [[2, 0], [0, 1]]


def test_the_same_seed_gives_the_same_intervals():
    sample = two(80, 1.5)
    assert evaluate(sample, seed=1) == evaluate(sample, seed=1)
    assert evaluate(sample, seed=1)["brier"] != evaluate(sample, seed=2)["brier"]


def test_each_metric_has_the_interval_and_the_images_of_its_own_formula():
    sample = two(60, 1.0, share=0.25)
    labels, chosen = sample.labels, sample.predicted()
    found = evaluate(sample, n_resamples=50)
    for name, among in {
        "accuracy": np.ones(60, bool), "recall": labels == 1, "specificity": labels == 0, "precision": chosen == 1
    }.items():  # fmt: skip
        hits = int((chosen == labels)[among].sum())
        assert (found[name].low, found[name].high) == intervals.wilson(hits, int(among.sum())), name
        assert (found[name].n, found[name].method) == (among.sum(), "Wilson"), name
    overlap = intervals.wilson(int(((labels == 1) & (chosen == 1)).sum()), int(((labels == 1) | (chosen == 1)).sum()))
    assert (found["f1"].low, found["f1"].high) == pytest.approx([2 * bound / (1 + bound) for bound in overlap])
    recalls = [(chosen == labels)[labels == k].mean() for k in (0, 1)]
    expected = intervals.balanced_recall(np.array(recalls), np.array([45.0, 15.0]))
    assert (found["balanced_accuracy"].low, found["balanced_accuracy"].high) == pytest.approx(expected)
    assert (found["auroc"].low, found["auroc"].high) == pytest.approx(
        auroc_interval(labels, sample.probabilities[:, 1:], [1], None)[0]
    )
    assert {name: one.method for name, one in found.items() if one.method != "Wilson"} == {
        "balanced_accuracy": "Wilson, of the mean", "f1": "Wilson, of the overlap", "auroc": "score",
        "ece": "conservative bounds", "average_precision": "bootstrap", "mcc": "bootstrap", "brier": "bootstrap",
    }  # fmt: skip


@pytest.mark.parametrize("positive", [0, 1])
def test_recall_is_of_the_positive_class_whichever_that_is(positive):
    sample = two(60, 1.0, share=0.25)
    turned = predictions(sample.labels, sample.probabilities, positive=positive)
    found = evaluate(turned, n_resamples=20)
    assert found["recall"].n == (15 if positive else 45)
    assert found["specificity"].n == (45 if positive else 15)
    right = turned.predicted() == turned.labels
    assert found["recall"].value == pytest.approx(right[turned.labels == positive].mean())
    assert found["specificity"].value == pytest.approx(right[turned.labels != positive].mean())


def test_a_class_that_is_predicted_but_does_not_occur_leaves_no_proportion_to_speak_of():
    sample = three(60, 1.5)
    everything = evaluate(sample, n_resamples=50)
    assert everything["recall"] == everything["balanced_accuracy"]
    assert everything["recall"].method == "Wilson, of the mean"
    right = sample.predicted() == sample.labels
    recalls = np.array([right[sample.labels == k].mean() for k in range(3)])
    expected = intervals.mean_recall(recalls, np.full(3, 20.0))
    assert (everything["recall"].low, everything["recall"].high) == pytest.approx(expected)
    without = sample.where(sample.labels != 2)
    assert (without.predicted() == 2).any()
    found = evaluate(without, n_resamples=50)
    assert found["recall"].method == "bootstrap"
    # The class that doesn't occur has neither an AUROC nor a part in the mean.
    assert (found["auroc"].low, found["auroc"].high) == pytest.approx(
        auroc_interval(without.labels, without.probabilities[:, :2], [0, 1], None)[0]
    )


def test_groups_are_told_in_every_method_and_narrow_none():
    sample = two(60, 1.0, image_noise=0.6, group=3)
    found = evaluate(sample, n_resamples=50)
    groups = np.arange(60) // 3
    right = sample.predicted() == sample.labels
    assert all(one.method.endswith(", of groups") for one in found.values())
    for name, among in {"accuracy": np.ones(60, bool), "recall": sample.labels == 1}.items():
        expected = intervals.proportion(right[among], groups[among])
        assert (found[name].low, found[name].high) == expected
    assert as_json(found)["recall"] == {
        "value": found["recall"].value, "low": found["recall"].low, "high": found["recall"].high, "n": 30,
        "caveat": "few_groups",
    }  # fmt: skip


def test_a_metric_that_is_the_same_in_all_resamples_is_widened_all_the_same():
    """A perfect ranking at a bad threshold: every class has mistakes, and average precision never varies."""
    labels = np.arange(30) % 2
    p = np.where(labels == 1, 0.8, 0.7)  # all are predicted positive at 0.5
    p[:2] = [0.3, 0.4]  # but one of each class
    sample = predictions(labels, np.stack([1 - p, p], 1))
    found = evaluate(sample, n_resamples=100)["average_precision"]
    assert found.low < found.value - 0.02
