"""Two runs in each subgroup of their test images, counted by hand."""

import csv
import json
from pathlib import Path

import pytest
from statsmodels.stats.contingency_tables import mcnemar
from typer.testing import CliRunner

from raylight.cli import app
from raylight.comparison.study import study_of
from raylight.comparison.subgroups import subgroup_differences, subgroup_sentences
from raylight.data.index import Index
from tests.comparison.run_folders import run_folder


@pytest.fixture
def halves(tmp_path: Path) -> tuple[Path, Path]:
    """60 images, the first 24 of them of site a; the second run is wrong on ten of those, the first on two of all."""
    asked = "report.subgroups.site=[]"
    one = run_folder(tmp_path / "one", tmp_path / "here", {0, 30}, range(60), overrides=("model.name=small", asked))
    other = run_folder(
        tmp_path / "other", tmp_path / "here", set(range(10)), range(60), overrides=("model.name=tiny", asked)
    )
    for run in (one, other):
        index = Index.read(run / "index.parquet")
        sites = [json.dumps({"site": "a" if i < 24 else "b" if i < 54 else "c"}) for i in range(60)]
        index.with_column("metadata", sites).write(run / "index.parquet")
    return one, other


def test_each_subgroup_has_its_own_paired_difference(halves: tuple[Path, Path]) -> None:
    ((a, b, c),) = subgroup_differences(study_of(halves))
    assert [(one.column, one.name, one.n) for one in (a, b, c)] == [
        ("site", "a", 24),
        ("site", "b", 30),
        ("site", "c", 6),
    ]
    assert a.difference.value == pytest.approx(-9 / 24)
    p_value = mcnemar([[14, 9], [0, 1]], exact=False, correction=False).pvalue
    assert a.difference.p_value == pytest.approx(p_value)
    assert a.corrected == pytest.approx(2 * p_value)  # of two subgroups that are large enough
    assert b.difference.value == pytest.approx(1 / 30)
    assert c.corrected != c.corrected  # too few


def test_the_command_names_the_subgroup_that_loses_most_and_writes_the_table(
    halves: tuple[Path, Path], tmp_path: Path
) -> None:
    (sentence,) = subgroup_sentences(subgroup_differences(study_of(halves)))
    assert sentence.startswith(
        "In the subgroup site a (24 images), tiny model.name=tiny is 37.5 percentage points less accurate"
    )
    assert "more than chance would explain (p = 0.0054" in sentence
    done = CliRunner().invoke(app, ["compare", *map(str, halves), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert sentence in done.output
    assert sentence in (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    with (tmp_path / "out" / "subgroups.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["subgroup"], row["n"], row["p_corrected"] == "") for row in rows] == [
        *(("a", "24", False), ("b", "30", False), ("c", "6", True)),
    ]


def test_runs_without_subgroups_have_none(two: tuple[Path, Path]) -> None:
    assert subgroup_differences(study_of(two)) == []
