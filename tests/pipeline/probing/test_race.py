"""The race stops what is far behind, halves what can't be told apart, and judges all on the same images."""

import numpy as np
import pytest

from raylight.pipeline.probing.race import BEHIND, BETTER_HALF, looks, mixed_order, race


def coins(accuracies: list[float], n: int) -> np.ndarray:
    draw = np.random.default_rng(3).uniform(size=(len(accuracies), n))
    return draw < np.array(accuracies)[:, None]


def test_the_hopeless_are_stopped_at_the_first_look_and_the_rest_is_halved() -> None:
    right, shown = coins([0.97, 0.5, 0.96, 0.97, 0.96, 0.95, 0.97, 0.96], 1000), []

    def judge(number: int, chosen: np.ndarray) -> np.ndarray:
        shown.append((number, len(chosen)))
        return np.asarray(right[number][chosen])

    order = np.random.default_rng(0).permutation(1000)
    found = race(8, [128, 256, 512, 1000], order, np.arange(1000), judge)
    assert (found[1].stopped, found[1].n) == (BEHIND, 128)
    at = {size: sum(n == size for _, n in shown) for size in (128, 256, 512, 1000)}
    assert at == {128: 8, 256: 4, 512: 3, 1000: 3}
    assert sorted(standing.n for standing in found if standing.stopped is None) == [1000] * 3
    assert {standing.stopped for standing in found} == {BEHIND, BETTER_HALF, None}
    final = next(standing for standing in found if standing.stopped is None)
    number = found.index(final)
    assert final.accuracy == right[number].mean()
    np.testing.assert_array_equal(final.right[256], right[number][order[:256]])


def test_the_test_alone_stops_finalists_and_one_network_runs_alone() -> None:
    right = coins([0.9, 0.6], 600)
    found = race(2, [128, 600], np.arange(600), np.arange(600), lambda number, chosen: right[number][chosen])
    assert [(standing.n, standing.stopped) for standing in found] == [(600, None), (128, BEHIND)]
    (alone,) = race(1, [128, 600], np.arange(600), np.arange(600), lambda _, chosen: right[0][chosen])
    assert (alone.n, alone.stopped) == (600, None)


def test_images_of_one_patient_are_no_proof() -> None:
    """Of 128 images of four patients all differences lie in one patient: McNemar's test on images would reject."""
    right = np.ones((2, 256), bool)
    right[1, :32] = False
    groups = np.arange(256) // 32
    found = race(2, [128, 256], np.arange(256), groups, lambda number, chosen: right[number][chosen])
    assert found[1].stopped is None
    apart = race(2, [128, 256], np.arange(256), np.arange(256), lambda number, chosen: right[number][chosen])
    assert apart[1].stopped == BEHIND


@pytest.mark.parametrize(
    ("n", "n_classes", "wanted"), [(150, 2, [150]), (193, 2, [128, 193]), (3000, 60, [480, 960, 1920, 3000])]
)
def test_looks_double_up_to_all_images(n: int, n_classes: int, wanted: list[int]) -> None:
    assert looks(n, n_classes) == wanted


def test_each_beginning_has_the_classes_in_their_shares() -> None:
    targets = np.repeat([0, 1, 2], [600, 300, 100])
    order = mixed_order(targets, 0)
    assert sorted(order.tolist()) == list(range(1000))
    for size in (10, 50, 128, 500):
        counts = np.bincount(targets[order[:size]], minlength=3)
        assert np.abs(counts - size * np.array([0.6, 0.3, 0.1])).max() <= 1
    assert (order != mixed_order(targets, 1)).any()
