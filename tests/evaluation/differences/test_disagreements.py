import numpy as np
import pytest

from raylight.evaluation.differences.disagreements import disagreements


def test_independent_images_are_counted() -> None:
    first, second = np.array([True, True, True, False, False]), np.array([True, False, False, True, False])
    assert disagreements(first, second) == (1, 2, 5)


def test_images_of_a_patient_that_disagree_alike_count_less() -> None:
    """Durkalski's design effect: four disagreeing images, whose sums per patient, 2, 1 and 1, have the squared sum 6."""
    first, second = np.ones(20, bool), ~np.isin(np.arange(20), (0, 1, 2, 4))
    assert disagreements(first, second, np.repeat(np.arange(10), 2)) == pytest.approx((0, 4 * 4 / 6, 20 * 4 / 6))


def test_patients_count_at_least_as_one_image_each() -> None:
    """Ten patients of two images each are ten images at least, here one of whom disagrees twice."""
    first, second = np.ones(20, bool), np.arange(20) >= 2
    assert disagreements(first, second, np.repeat(np.arange(10), 2)) == pytest.approx((0, 1, 10))


def test_patients_that_disagree_both_ways_count_each_image() -> None:
    first, second = np.array([True, False] * 10), np.array([False, True] * 10)
    assert disagreements(first, second, np.repeat(np.arange(10), 2)) == (10, 10, 20)


def test_no_image_is_none() -> None:
    assert disagreements(np.ones(0, bool), np.ones(0, bool)) == (0, 0, 0)
