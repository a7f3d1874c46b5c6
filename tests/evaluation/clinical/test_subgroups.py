"""Results by subgroup against formulas of statsmodels and cases counted by hand."""

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.proportion import confint_proportions_2indep
from statsmodels.stats.proportion import test_proportions_2indep as score_test

from raylight.evaluation.clinical.subgroups import below_the_rest, independent_difference, subgroup_results
from raylight.evaluation.differences.paired import holm
from raylight.evaluation.predictions import Predictions


def sample(mistakes: list[int], sizes: list[int], groups=None) -> tuple[Predictions, list[str]]:
    """Images of subgroups a, b, ... of which the first few are given the wrong class."""
    names = [chr(97 + i) for i, size in enumerate(sizes) for _ in range(size)]
    wrong = np.concatenate([np.arange(size) < few for few, size in zip(mistakes, sizes, strict=True)])
    labels = np.arange(len(names)) % 2
    said = np.where(wrong, 1 - labels, labels)
    probabilities = np.where(said[:, None] == np.arange(2), 0.9, 0.1)
    paths = tuple(map(str, range(len(names))))
    return Predictions(paths, ("test",) * len(names), labels, probabilities, ("no", "yes"), "yes", groups), names


@pytest.mark.parametrize(("first", "second"), [((90, 100), (35, 50)), ((100, 100), (45, 50)), ((10, 20), (10, 20))])
def test_the_interval_is_newcombes_and_the_p_value_near_the_score_tests(first, second) -> None:
    found = independent_difference(np.arange(first[1]) < first[0], np.arange(second[1]) < second[0])
    wanted = confint_proportions_2indep(*second, *first, method="newcomb", compare="diff")
    assert (found.low, found.high) == pytest.approx(wanted, abs=1e-9)
    assert found.p_value == pytest.approx(score_test(*second, *first, method="score", compare="diff").pvalue, abs=0.01)


def test_p_value_and_interval_agree_at_every_count() -> None:
    first = np.arange(60) < 54
    for right in range(41):
        found = independent_difference(first, np.arange(40) < right)
        assert (found.p_value < 0.05) == (found.low > 0 or found.high < 0)


def test_groups_count_once() -> None:
    alone = independent_difference(np.arange(40) < 36, np.arange(30) < 15)
    doubled = np.repeat(np.arange(40) < 36, 3), np.repeat(np.arange(30) < 15, 3)
    groups = np.repeat(np.arange(40), 3), np.repeat(np.arange(30), 3)
    grouped = independent_difference(*doubled, groups)
    assert grouped.value == alone.value
    assert grouped.high - grouped.low == pytest.approx(alone.high - alone.low, rel=0.06)


def test_each_subgroup_is_judged_against_the_rest() -> None:
    predictions, names = sample([2, 12, 1], [40, 40, 60])
    first, second, third = subgroup_results(predictions, None, {"site": names})
    assert [(one.column, one.name, one.n, one.positives) for one in (first, second, third)] == [
        *(("site", "a", 40, 20), ("site", "b", 40, 20), ("site", "c", 60, 30)),
    ]
    assert second.estimates["accuracy"].value == pytest.approx(28 / 40)
    assert second.gap["accuracy"].value == pytest.approx(28 / 40 - 97 / 100)
    assert second.gap["recall"].value == pytest.approx(
        14 / 20 - 1 + 1 / 50
    )  # of a and c one positive each is missed: odd ones
    assert below_the_rest([first, second, third])[0] == (second, "accuracy")
    raw = [one.gap["accuracy"].p_value for one in (first, second, third)]
    assert [one.corrected["accuracy"] for one in (first, second, third)] == pytest.approx(holm(raw))
    assert raw[1] == pytest.approx(2 * norm.sf(abs(norm.isf(raw[1] / 2))))


def test_small_subgroups_and_unknown_values_are_not_compared() -> None:
    predictions, names = sample([2, 5], [60, 19])
    first, second = subgroup_results(predictions, None, {"site": names})
    assert not first.compared  # its rest is as small
    assert not second.compared
    assert second.estimates["accuracy"].value == pytest.approx(14 / 19)
    assert below_the_rest([first, second]) == []
    assert subgroup_results(predictions, None, {"site": [None] * 79}) == []


def test_groups_of_images_decide_what_is_too_small() -> None:
    predictions, names = sample([2, 5], [60, 60], groups=tuple(str(i // 4) for i in range(120)))
    assert not any(one.compared for one in subgroup_results(predictions, None, {"site": names}))
