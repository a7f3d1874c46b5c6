import numpy as np
import pytest
from sklearn import metrics as reference

from raylight.evaluation.definitions.weighted import WeightedMetrics
from raylight.evaluation.intervals import Interval, Z, independent_groups, wilson
from raylight.evaluation.predictions import LabelledPredictions
from raylight.evaluation.zero_events import widen, with_added_disagreements, with_added_events


def labelled(labels, predicted, groups=None, claim=0.9):
    predicted = np.asarray(predicted)
    probabilities = np.where(predicted[:, None] == np.arange(2), claim, 1 - claim)
    return LabelledPredictions(np.asarray(labels), probabilities, predicted, 1, groups)


def test_a_perfect_sample_with_unseen_mistakes_is_wilsons_bound():
    labels = np.array([0] * 30 + [1] * 10)
    (with_mistakes,) = with_added_events(labelled(labels, labels))
    assert with_mistakes["accuracy"] == pytest.approx(wilson(40, 40).low)
    assert with_mistakes["recall"] == pytest.approx(with_mistakes["specificity"])
    assert with_mistakes["brier"] > 0.01


def test_only_classes_without_a_mistake_get_one():
    labels, predicted = np.array([0] * 20 + [1] * 10), np.array([0] * 18 + [1] * 12)
    (with_mistakes,) = with_added_events(labelled(labels, predicted))
    assert with_mistakes["specificity"] == pytest.approx(0.9)
    assert with_mistakes["recall"] == pytest.approx(10 / (10 + Z**2))


def test_groups_leave_more_unseen():
    labels = np.array([0] * 20 + [1] * 20)
    (few,) = with_added_events(labelled(labels, labels, np.arange(40) // 4))
    assert few["accuracy"] == pytest.approx(wilson(10, 10).low)


def test_a_class_that_is_never_found_might_have_been():
    labels = np.array([0] * 20 + [1] * 20)
    mistakes, successes = with_added_events(labelled(labels, np.zeros(40, int)))
    assert mistakes["specificity"] == pytest.approx(20 / (20 + Z**2))
    assert successes["recall"] == pytest.approx(Z**2 / (20 + Z**2))


def test_a_sample_that_shows_everything_needs_nothing():
    labels, predicted = np.array([0, 0, 1, 1]), np.array([0, 1, 0, 1])
    assert with_added_events(labelled(labels, predicted)) == []
    assert len(with_added_events(labelled(labels, predicted), every_class=True)) == 2


def test_widening_adds_as_independent_errors_do_and_stays_in_range():
    unseen = [{"mcc": 0.5, "brier": 1.9}]
    assert widen("mcc", 0.8, Interval(0.4, 0.9), unseen) == pytest.approx((0.3, 0.9))
    assert widen("brier", 0.1, Interval(0.1, 1.0), unseen) == pytest.approx((0.1, 2.0))
    assert np.isnan(widen("mcc", float("nan"), Interval(0, 1), unseen)).all()


def of_classes(n_classes, predicted_seed, groups=None):
    labels = np.repeat(np.arange(n_classes), [12, 7, 9][:n_classes])
    rng = np.random.default_rng(predicted_seed)
    probabilities = rng.dirichlet(np.ones(n_classes), len(labels)) * 0.5 + 0.5 * np.eye(n_classes)[labels]
    return LabelledPredictions(labels, probabilities, probabilities.argmax(axis=1), 1, groups)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("grouped", [False, True])
def test_added_disagreements_are_images_that_one_model_alone_gets_right(n_classes, grouped):
    """z^2 images in the classes' shares, more where groups tell less: scikit-learn's metrics of the weighted sample."""
    n = sum([12, 7, 9][:n_classes])
    groups = np.arange(n) // 3 if grouped else None
    first, second = of_classes(n_classes, 0, groups), of_classes(n_classes, 1, groups)
    classes, counts = np.unique(first.labels, return_counts=True)
    labels = np.r_[first.labels, classes]
    effective = independent_groups(groups) if grouped else n
    weights = np.r_[np.ones(n), Z**2 * n / effective * counts / n]
    wrong = (classes + 1) % n_classes
    found = with_added_disagreements(first, second)
    for differences, added in zip(found, ((classes, wrong), (wrong, classes)), strict=True):
        one, other = (np.r_[model.predicted, extra] for model, extra in zip((first, second), added, strict=True))

        def difference(metric, one=one, other=other, **settings):
            return metric(labels, other, sample_weight=weights, **settings) - metric(
                labels, one, sample_weight=weights, **settings
            )

        average = {"pos_label": 1} if n_classes == 2 else {"average": "macro"}
        assert differences["accuracy"] == pytest.approx(difference(reference.accuracy_score))
        assert differences["balanced_accuracy"] == pytest.approx(difference(reference.balanced_accuracy_score))
        assert differences["f1"] == pytest.approx(difference(reference.f1_score, **average))
        assert differences["mcc"] == pytest.approx(difference(reference.matthews_corrcoef))


def test_added_disagreements_of_a_single_class_are_told_as_the_next_one():
    labels = np.zeros(10, int)
    first_right, second_right = with_added_disagreements(labelled(labels, labels), labelled(labels, labels))
    assert first_right["accuracy"] == pytest.approx(-(Z**2) / (10 + Z**2))
    assert second_right["accuracy"] == pytest.approx(Z**2 / (10 + Z**2))


def test_added_mistakes_look_like_an_average_image_of_the_next_class():
    """Three classes, each without a mistake: as many mistakes as its share of z^2, with the next class's probabilities."""
    labels = np.repeat([0, 1, 2], [10, 6, 4])
    probabilities = np.eye(3)[labels] * 0.6 + np.random.default_rng(0).dirichlet(np.ones(3), 20) * 0.4
    sample = LabelledPredictions(labels, probabilities, labels, 0, None)
    (found,) = with_added_events(sample)
    means = np.stack([probabilities[labels == k].mean(axis=0) for k in range(3)])
    weights = np.r_[np.ones(20), Z**2 * np.array([10, 6, 4]) / 20]
    extended = LabelledPredictions(
        np.r_[labels, 0, 1, 2],
        np.r_[probabilities, means[[1, 2, 0]]],
        np.r_[labels, 1, 2, 0],
        0,
        None,
    )
    expected = {name: value[0] for name, value in WeightedMetrics(extended)(weights[None, :]).items()}
    assert found == pytest.approx(expected)
    brier = np.sum(weights * ((extended.probabilities - np.eye(3)[extended.labels]) ** 2).sum(axis=1)) / weights.sum()
    assert found["brier"] == pytest.approx(brier)


def test_a_single_class_without_a_mistake_gets_certain_ones():
    labels = np.ones(9, int)
    (found,) = with_added_events(labelled(labels, labels))
    assert found["accuracy"] == pytest.approx(9 / (9 + Z**2))
    # An added image is certain of the other class: its Brier score is 1.
    assert found["brier"] == pytest.approx((9 * 0.01 + Z**2) / (9 + Z**2))
