"""A comparison in words."""

from dataclasses import replace
from pathlib import Path

from typer.testing import CliRunner

from raylight.cli import app
from raylight.comparison.study import study_of
from raylight.comparison.study_text import markdown, pair_sentence
from tests.comparison.run_folders import seeds


def test_one_recipe_has_a_spread_and_nothing_to_compare(tmp_path: Path) -> None:
    runs = seeds(tmp_path, "small", [set(range(i)) for i in (1, 5, 9, 2, 6, 8)])
    done = CliRunner().invoke(app, ["compare", *map(str, runs)])
    assert done.exit_code == 0, done.output
    assert "All 6 runs are of one recipe and differ only by seed" in done.output
    assert "more than chance" not in done.output


def test_single_runs_are_called_networks_not_recipes(two: tuple[Path, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["compare", *map(str, two), "--out", str(tmp_path / "out")])
    assert "two trained networks were compared, not two recipes" in done.output
    assert "two trained networks were compared, not two recipes" in (tmp_path / "out/comparison.html").read_text()


def test_a_verdict_names_the_better_one_and_what_it_rests_on(two: tuple[Path, Path]) -> None:
    (pair,) = study_of(two).pairs
    p = pair.corrected["accuracy"]
    assert pair_sentence(pair) == (
        "small model.name=small is right on 7 more of 40 images than tiny model.name=tiny (they disagree on 9), "
        f"more than chance would explain (p = {p:.3f})."
    )
    recipes = replace(pair, design="recipes", corrected={"accuracy": 0.2})
    assert "17.5 percentage points more accurate" in pair_sentence(recipes)
    assert "which may be chance (p = 0.20, corrected)." in pair_sentence(recipes)
    turned = replace(pair, first=pair.second, second=pair.first)
    assert pair_sentence(turned).startswith("tiny")  # the sign of the difference decides


def test_markdown_has_a_row_for_each_recipe_and_pair(two: tuple[Path, Path]) -> None:
    study = study_of(two)
    lines = markdown(study).splitlines()
    rows = [line for line in lines if line.startswith(("| small", "| tiny"))]
    assert [row.split(" | ")[1] for row in rows] == ["1", "1", "30"]  # runs of each, then images that both get right
    assert rows[-1].startswith("| small model.name=small → tiny model.name=tiny | 30 | 8 | 1 | 1 | -0.175 (")
    assert f"- {pair_sentence(study.pairs[0])}" in lines
