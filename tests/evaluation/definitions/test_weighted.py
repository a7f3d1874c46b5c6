"""Metrics as functions of weights have the values of torchmetrics and scikit-learn, undefined ones included."""

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score

from raylight.evaluation.bootstrap import resampling_weights
from raylight.evaluation.definitions.torchmetrics import metric_collection
from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.predictions import LabelledPredictions, decide


def labelled(n, n_classes, seed=0, positive=1, threshold=None, decimals=None, groups=None):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes)) + 1.2 * np.eye(n_classes)[labels]
    if decimals is not None:
        logits = np.round(logits, decimals)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    # What torchmetrics sees is float32; rounding first makes the same ties for both.
    probabilities = probabilities.astype(np.float32).astype(np.float64)
    return LabelledPredictions(labels, probabilities, decide(probabilities, positive, threshold), positive, groups)


@pytest.mark.parametrize(("n_classes", "positive"), [(2, 0), (2, 1), (3, 0), (6, 2)])
@pytest.mark.parametrize("decimals", [None, 0])
def test_unweighted_values_are_those_of_torchmetrics(n_classes, positive, decimals):
    judged = labelled(120, n_classes, positive=positive, decimals=decimals)
    collection = metric_collection(n_classes, positive)
    collection.update(torch.from_numpy(judged.probabilities), torch.from_numpy(judged.labels))
    expected = {name: value.item() for name, value in collection.compute().items()}
    values = {name: value[0] for name, value in WeightedMetrics(judged)(np.ones((1, 120))).items()}
    assert values == pytest.approx(expected, abs=2e-5)


def test_classes_that_are_absent_or_never_predicted_follow_torchmetrics():
    labels = np.array([0, 0, 1, 1, 3])
    probabilities = np.eye(5)[[0, 1, 1, 2, 1]] * 0.6 + 0.08
    judged = LabelledPredictions(labels, probabilities, probabilities.argmax(axis=1), 0, None)
    collection = metric_collection(5, 0)
    collection.update(torch.from_numpy(probabilities), torch.from_numpy(labels))
    expected = {name: value.item() for name, value in collection.compute().items()}
    values = {name: value[0] for name, value in WeightedMetrics(judged)(np.ones((1, 5))).items()}
    assert values == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("labels", [[0, 0, 0], [1, 1, 1]])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_what_is_undefined_is_undefined_in_both(labels, n_classes):
    probabilities = np.eye(n_classes)[[0, 0, 1]] * 0.5 + 0.5 / n_classes
    judged = LabelledPredictions(np.array(labels), probabilities, decide(probabilities, 1), 1, None)
    collection = metric_collection(n_classes, 1)
    collection.update(torch.from_numpy(probabilities), torch.tensor(labels))
    expected = {name: value.item() for name, value in collection.compute().items()}
    values = {name: value[0] for name, value in WeightedMetrics(judged)(np.ones((1, 3))).items()}
    assert values == pytest.approx(expected, abs=1e-5, nan_ok=True)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_weights_stand_for_repeated_images(n_classes):
    judged = labelled(80, n_classes, decimals=1)
    (weights,) = resampling_weights(80, None, 5, seed=3)
    weighted = WeightedMetrics(judged)(weights)
    for row in range(5):
        rows = np.repeat(np.arange(80), weights[row].astype(int))
        drawn = LabelledPredictions(judged.labels[rows], judged.probabilities[rows], judged.predicted[rows], 1, None)
        repeated = WeightedMetrics(drawn)(np.ones((1, 80)))
        for name, value in repeated.items():
            assert weighted[name][row] == pytest.approx(value[0], abs=1e-5), name


def test_weighted_rankings_agree_with_scikit_learn():
    judged = labelled(200, 2, decimals=1)
    weights = np.random.default_rng(0).random((3, 200))
    values = WeightedMetrics(judged)(weights)
    truth, score = judged.labels == 1, judged.probabilities[:, 1]
    for row in range(3):
        area = roc_auc_score(truth, score, sample_weight=weights[row])
        precision = average_precision_score(truth, score, sample_weight=weights[row])
        assert values["auroc"][row] == pytest.approx(area, abs=1e-9)
        assert values["average_precision"][row] == pytest.approx(precision, abs=1e-9)


def test_classes_that_a_resample_lacks_are_left_out_of_its_averages():
    judged = labelled(60, 4)
    weights = np.where(judged.labels == 2, 0.0, 1.0)[None, :]
    rest = judged.labels != 2
    without = LabelledPredictions(judged.labels[rest], judged.probabilities[rest], judged.predicted[rest], 1, None)
    expected = WeightedMetrics(without)(np.ones((1, int(rest.sum()))))
    for name in ("auroc", "average_precision"):
        assert WeightedMetrics(judged)(weights)[name][0] == pytest.approx(expected[name][0])
