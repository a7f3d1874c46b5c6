"""Subgroups in the run folder, on the page, and in a sentence."""

import csv

import numpy as np
import pytest
from omegaconf import OmegaConf

from raylight.errors import DataError
from raylight.evaluation.clinical.subgroups import subgroup_results
from raylight.evaluation.predictions import Predictions
from raylight.report.facts import RunFacts
from raylight.report.run_page import write_report
from raylight.report.subgroups import sentences, write_subgroups
from tests.evaluation.clinical.test_subgroups import sample
from tests.finished_run import FinishedRun


def ask(finished: FinishedRun, **columns: list[float]) -> None:
    config = OmegaConf.load(finished.run / "config.yaml")
    config.report.subgroups = columns
    OmegaConf.save(config, finished.run / "config.yaml")


def test_the_table_and_the_page_have_a_row_for_each(finished: FinishedRun) -> None:
    ask(finished, width=[43])  # cats are 40 pixels wide, dogs 45
    said = write_subgroups(RunFacts(finished.run))
    assert said == [
        "Too small to be compared, with fewer than 20 images inside or outside: width 43 and above (8), width below 43 (8)."
    ]
    with (finished.run / "subgroups.csv").open(newline="") as file:
        dogs, cats = csv.DictReader(file)
    assert (dogs["subgroup"], dogs["n"], dogs["positives"]) == ("43 and above", "8", "8")
    assert (cats["subgroup"], cats["positives"], cats["recall"], cats["accuracy_gap"]) == ("below 43", "0", "", "")
    facts = RunFacts(finished.run)
    right = [facts.predicted[i] == label for i, label in enumerate(facts.test.labels) if label == 1]
    assert float(dogs["accuracy"]) == pytest.approx(sum(right) / 8)
    page = write_report(finished.run).read_text(encoding="utf-8")
    assert "By subgroup: width" in page
    assert "43 and above" in page


def test_nothing_asked_for_is_nothing_written(finished: FinishedRun) -> None:
    assert write_subgroups(RunFacts(finished.run)) == []
    assert not (finished.run / "subgroups.csv").exists()


def test_a_column_that_is_not_there_is_named(finished: FinishedRun) -> None:
    ask(finished, widht=[43])
    with pytest.raises(DataError, match=r"no column 'widht'.*did you mean 'width'"):
        write_subgroups(RunFacts(finished.run))


def test_subgroups_below_the_rest_are_named_with_what_chance_explains() -> None:
    predictions, names = sample([2, 12, 1], [40, 40, 60])
    said = sentences(subgroup_results(predictions, None, {"site": names}), predictions)
    assert said[0].startswith(
        "Of the subgroups, site b is below the rest: accuracy 0.700 (n = 40), 0.270 below the other images (+0."
    )
    assert all("more than chance would explain" in one for one in said)
    alike, names = sample([3, 2], [40, 40])
    (said,) = sentences(subgroup_results(alike, None, {"site": names}), alike)
    assert said.startswith("Of the subgroups, site a is furthest below the rest: accuracy 0.925 (n = 40)")
    assert "which may be chance (p = 0.6" in said


def test_a_large_subgroup_beyond_chance_is_named_before_a_small_one_that_may_be_chance() -> None:
    """Site a has the smaller gap, but on 2,000 images; site c has the larger on 25."""
    predictions, names = sample([160, 60, 3], [2000, 2000, 25])
    found = subgroup_results(predictions, None, {"site": names})
    a, _, c = found
    assert c.gap["accuracy"].value < a.gap["accuracy"].value < 0
    assert c.corrected["accuracy"] > 0.05 > a.corrected["accuracy"]
    assert [said.split(" is ")[0] for said in sentences(found, predictions) if "accuracy" in said] == [
        "Of the subgroups, site a"
    ]


def test_a_recall_below_the_rest_is_named_with_its_positives() -> None:
    """In site a 20 of 50 positives are missed, in site b 20 of 50 negatives: their accuracies are alike."""
    labels = np.arange(200) % 2
    wrong = np.zeros(200, bool)
    wrong[np.flatnonzero(labels[:100] == 1)[:20]] = True
    wrong[100 + np.flatnonzero(labels[100:] == 0)[:20]] = True
    probabilities = np.where((np.where(wrong, 1 - labels, labels))[:, None] == np.arange(2), 0.9, 0.1)
    predictions = Predictions(
        *(tuple(map(str, range(200))), ("test",) * 200, labels, probabilities, ("no", "yes"), "yes", None)
    )
    said = sentences(subgroup_results(predictions, None, {"site": ["a"] * 100 + ["b"] * 100}), predictions)
    assert [one.split(" (n = 50), 0.400 below")[0] for one in said] == [
        "Of the subgroups, site a is below the rest: recall 0.600",
        "Of the subgroups, site b is below the rest: specificity 0.600",
    ]
