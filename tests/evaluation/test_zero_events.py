import numpy as np
import pytest

from raylight.evaluation.intervals import Interval, Z, wilson
from raylight.evaluation.predictions import LabelledPredictions
from raylight.evaluation.zero_events import widen, with_added_events


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
