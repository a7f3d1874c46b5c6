import numpy as np
import pytest

from raylight.evaluation.caveats import CAVEATS
from raylight.evaluation.differences.paired import compare
from raylight.evaluation.metrics import as_json, evaluate
from raylight.evaluation.predictions import Predictions


def predictions(counts, groups=None, seed=0):
    """Images of each class, most of them recognised."""
    rng = np.random.default_rng(seed)
    k, labels = len(counts), np.repeat(np.arange(len(counts)), counts)
    logits = rng.normal(size=(len(labels), k)) + 2.5 * np.eye(k)[labels]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = tuple(f"c{i:02}" for i in range(k))
    paths = tuple(f"{i}.png" for i in range(len(labels)))
    return Predictions(paths, ("test",) * len(labels), labels, probabilities, names, names[1], groups)


def caveats(sample):
    return {name: estimate.caveat for name, estimate in evaluate(sample, n_resamples=50).items()}


def test_of_enough_images_the_calibration_error_and_auroc_alone_are_said_to_be_wide():
    for counts in ([120, 36], [90, 75, 60], [12] * 12):
        found = caveats(predictions(counts))
        assert {name for name, caveat in found.items() if caveat} == {"auroc", "ece"}, counts
        assert found["auroc"] == found["ece"] == "conservative"


@pytest.mark.parametrize(
    ("mistakes", "marked"), [(4, {"auroc", "ece", "average_precision", "mcc"}), (5, {"auroc", "ece"})]
)
def test_nearly_perfect_rankings_are_said_to_be_wide(mistakes, marked):
    labels = np.repeat([0, 1], 30)
    sure = np.where(np.arange(60) < mistakes, 1 - labels, labels) * 0.8 + 0.1
    paths = tuple(f"{i}.png" for i in range(60))
    sample = Predictions(paths, ("test",) * 60, labels, np.stack([1 - sure, sure], axis=1), ("a", "b"), "b", None)
    assert {name for name, caveat in caveats(sample).items() if caveat == "conservative"} == marked


@pytest.mark.parametrize("counts", [[1] * 30, [4] * 10, [20, 0, 20, 20]])
def test_averages_over_classes_of_few_images_are_marked(counts):
    found = caveats(predictions(counts))
    marked = {name for name, caveat in found.items() if caveat == "few_per_class"}
    averages = {"balanced_accuracy", "precision", "recall", "specificity", "f1", "auroc", "average_precision"}
    assert marked == averages
    # These count images, whatever their class.
    assert found["accuracy"] is found["mcc"] is found["brier"] is None


def test_rankings_of_nine_positives_are_marked_and_of_ten_not():
    assert {name for name, caveat in caveats(predictions([80, 9])).items() if caveat == "few_of_a_class"} == {
        "auroc",
        "average_precision",
    }
    assert caveats(predictions([80, 10]))["auroc"] == "conservative"


def test_few_groups_are_marked():
    few = caveats(predictions([60, 56], groups=tuple(str(i // 4) for i in range(116))))
    assert few["accuracy"] == few["brier"] == "few_groups"
    assert caveats(predictions([60, 60], groups=tuple(str(i // 4) for i in range(120))))["accuracy"] is None


def test_differences_have_them_too():
    first, second = predictions([4] * 10), predictions([4] * 10, seed=1)
    differences = compare(first, second, n_resamples=50).differences
    assert differences["f1"].caveat == "few_per_class"
    assert differences["accuracy"].caveat is None
    many = compare(predictions([40, 40]), predictions([40, 40], seed=1), n_resamples=50).differences
    swapped = {"auroc", "average_precision", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc"}
    assert {name for name, one in many.items() if one.caveat == "wide_difference"} == swapped


def test_the_file_has_the_word_and_only_where_there_is_one():
    table = as_json(evaluate(predictions([1] * 30), n_resamples=50), "test/")
    assert table["test/f1"]["caveat"] == "few_per_class"
    assert set(table["test/accuracy"]) == {"value", "low", "high", "n"}
    assert {cell["caveat"] for cell in table.values() if "caveat" in cell} <= set(CAVEATS)
