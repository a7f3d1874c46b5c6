"""Subgroups in the run folder, on the page, and in a sentence."""

import csv

import pytest
from omegaconf import OmegaConf

from raylight.errors import DataError
from raylight.evaluation.clinical.subgroups import subgroup_results
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


def test_the_worst_subgroup_is_named_with_what_chance_explains() -> None:
    predictions, names = sample([2, 12, 1], [40, 40, 60])
    (said,) = sentences(subgroup_results(predictions, None, {"site": names}), predictions)
    assert said.startswith(
        "Of the subgroups, site b is furthest below the rest: accuracy 0.700 (n = 40), 0.270 below the other images (+0."
    )
    assert "more than chance would explain" in said
    alike, names = sample([3, 2], [40, 40])
    (said,) = sentences(subgroup_results(alike, None, {"site": names}), alike)
    assert "which may be chance (p = 0.6" in said
