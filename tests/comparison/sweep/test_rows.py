"""Which jobs become one row, and what its numbers are."""

from pathlib import Path

import pytest
from scipy.stats import t

from raylight.comparison.sweep.files import flat_rows
from raylight.comparison.sweep.table import sweep_table
from tests.comparison.jobs import job


def test_jobs_that_differ_in_seed_or_fold_alone_are_one_row(sweep: Path) -> None:
    table = sweep_table(sweep)
    assert [row.name for row in table.rows] == ["model=cnn2", "model=cnn5"]
    assert [row.finished for row in table.rows] == [3, 2]
    assert table.fixed == {"data.limit": "60"}


def test_folds_are_repeats_and_other_settings_are_not(tmp_path: Path) -> None:
    for number, fold in enumerate((0, 1)):
        for plus, layers in (("++", "[16]"), ("", "[32,16]")):
            job(tmp_path, 10 * number + len(layers), f"data.fold={fold}", f"{plus}model.dense={layers}")
    assert [(row.name, len(row.jobs)) for row in sweep_table(tmp_path).rows] == [
        ("model.dense=[16]", 2),
        ("model.dense=[32,16]", 2),
    ]


def test_mean_spread_and_interval_are_as_documented(sweep: Path) -> None:
    accuracy = sweep_table(sweep).rows[0].metrics["accuracy"]
    assert accuracy.mean == pytest.approx(0.9)
    assert accuracy.deviation == pytest.approx(0.02)
    over_runs = t.ppf(0.975, 2) * 0.02 / 3**0.5
    assert accuracy.low == pytest.approx(0.9 - (over_runs**2 + 0.05**2) ** 0.5)
    assert accuracy.high == pytest.approx(0.9 + (over_runs**2 + 0.03**2) ** 0.5)


def test_seeds_that_agree_do_not_hide_that_the_images_are_few(sweep: Path) -> None:
    accuracy = sweep_table(sweep).rows[1].metrics["accuracy"]
    assert accuracy.deviation == 0
    assert (accuracy.low, accuracy.high) == (pytest.approx(0.75), pytest.approx(0.83))


def test_a_job_killed_before_its_first_word_counts_as_interrupted(tmp_path: Path) -> None:
    job(tmp_path, 0, "seed=1")
    killed = tmp_path / "1-demo-cnn2"
    killed.mkdir()
    (killed / "status.json").touch()
    table = sweep_table(tmp_path)
    assert [one.state for one in table.unfinished] == ["interrupted"]


def test_runs_deeper_than_the_sweep_are_found(tmp_path: Path) -> None:
    """As hydra.sweep.subdir='${data.name}/${seed}' puts them."""
    for seed in (1, 2):
        job(tmp_path / "demo" / str(seed), 0, f"seed={seed}").path.rename(tmp_path / "demo" / f"s{seed}")
    table = sweep_table(tmp_path)
    assert [row.finished for row in table.rows] == [2]
    assert flat_rows(table)[0]["runs"] == "demo/s1 demo/s2"
