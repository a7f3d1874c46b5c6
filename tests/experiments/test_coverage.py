"""The coverage study counts what it says it counts, against truths that have a formula."""

import numpy as np
import pytest
from experiments.coverage.chosen_best import flattery, random_labels
from experiments.coverage.populations import Model, Population
from experiments.coverage.settings import PAIRS, SHIFTS, SINGLE
from experiments.coverage.study import paired, single
from experiments.coverage.tables import Tally, false_alarms, out_of_bounds, table
from scipy.stats import norm


def test_the_truth_is_that_of_the_formulas():
    (balanced,) = Population().truth((Model(2.0),))
    assert balanced["accuracy"] == pytest.approx(norm.cdf(1), abs=0.003)
    assert balanced["auroc"] == pytest.approx(norm.cdf(2 / np.sqrt(2)), abs=0.003)
    # Bayes' rule at 10 %: positive above the score log(9) / 2.5.
    (rare,) = Population(positives=0.1).truth((Model(2.5),))
    assert rare["recall"] == pytest.approx(norm.sf(np.log(9) / 2.5 - 1.25), abs=0.01)
    (hopeless,) = Population(positives=0.3, hopeless=1.0).truth((Model(4.0),))
    assert hopeless["auroc"] == pytest.approx(0.5, abs=0.005)


def test_groups_come_whole_and_share_their_noise():
    population = Population(per_group=4, alike=0.9)
    (sample,) = population.draw(4000, (Model(2.0),), np.random.default_rng(0))
    labels = sample.labels.reshape(-1, 4)
    assert (labels == labels[:, :1]).all()
    logits = np.log(sample.probabilities[:, 1] / sample.probabilities[:, 0]).reshape(-1, 4)
    noise = logits - 4 * (labels - 0.5)
    assert np.corrcoef(noise[:, 0], noise[:, 1])[0, 1] == pytest.approx(0.9, abs=0.03)


def test_the_estimate_of_what_choosing_flatters_is_nearly_unbiased():
    """Twenty equal configurations and 40 images, where the best gains .064."""
    found = flattery(20, 40, 150)
    assert 0.05 < found.true < 0.08
    assert found.estimated == pytest.approx(found.true, abs=0.012)


def test_folds_of_random_labels_joined_at_the_last_epoch_are_right_on_half():
    assert random_labels(60, 60).mean == pytest.approx(0.5, abs=0.03)
    assert random_labels(60, 60, at_best=True).mean > 0.54


def test_intervals_and_tests_are_counted_by_caveat():
    tally = Tally(0.5)
    tally.add(0.55, 0.4, 0.7, None)
    tally.add(0.65, 0.6, 0.7, None)
    tally.add(0.55, 0.45, 0.6, "few_groups")
    tally.add(np.nan, np.nan, np.nan, None)
    assert (tally.sets, tally.held) == ({False: 2, True: 1}, {False: 1, True: 1})
    tally.test(0.01, 0.1, 0.3)
    tally.test(0.2, 0.1, 0.3)
    tally.test(np.nan, 0.1, 0.3)
    assert (tally.tested, tally.accused, tally.contradictions) == (2, 1, 1)


def test_out_of_bounds_allows_for_two_monte_carlo_errors():
    def covered(held, sets=400):
        return out_of_bounds(Tally(0.0, {False: sets, True: 0}, {False: held, True: 0}))

    # 93 % of 400 are 372 ± 5.1, 97.5 % are 390 ± 3.1.
    assert [covered(held) for held in (361, 362, 396, 397)] == ["too narrow", None, None, "wider than need be"]


def test_a_small_study_runs_through_the_products_functions():
    rows = {"one": single(SINGLE[1], 12)}
    assert all(tally.sets[False] + tally.sets[True] == 12 for tally in rows["one"].values())
    pairs = {PAIRS[0].name: paired(PAIRS[0], 12)}
    assert sum(tally.contradictions for tally in pairs[PAIRS[0].name].values()) == 0
    assert len(list(table(rows, 12))) == 3
    (_, _, line) = false_alarms(pairs)
    # The calibration error has no test.
    assert [cell.strip() for cell in line.split("|")].count("–") == 1
    for settings in (SINGLE, PAIRS, SHIFTS):
        assert len({one.name for one in settings}) == len(settings)
