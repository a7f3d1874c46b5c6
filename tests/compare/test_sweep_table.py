"""The table of a sweep: what becomes one row, what its numbers are, how failures are shown."""

import csv
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import t

from raylight.compare.sweep_files import flat_rows, markdown, write_sweep
from raylight.compare.sweep_table import parameters_of, spread, sweep_table
from raylight.config.metric_names import METRICS
from raylight.errors import RunError
from raylight.runs.run_dir import RunDir


def job(
    sweep: Path,
    number: int,
    *overrides: str,
    accuracy: float | None = 0.9,
    reason: str | None = None,
    tested: str = "same",
) -> RunDir:
    """A job's folder, as the pipeline leaves it: finished with an accuracy, or failed with a reason."""
    run = RunDir(sweep / f"{number}-demo-cnn2")
    run.path.mkdir(parents=True)
    state = "finished" if accuracy is not None else "failed"
    run.write_json("overrides.json", list(overrides))
    run.write_json(
        "status.json", {"state": state, "stage": "testing", "seconds": 20.0, "reason": reason, "host": "h", "pid": 1}
    )
    if accuracy is not None:
        metrics = {
            f"test/{name}": {"value": accuracy, "low": accuracy - 0.05, "high": accuracy + 0.03, "n": 60}
            for name in METRICS
        }
        cost = {"seconds": {"training": 10.0 + number}, "peak_memory_gb": 1.5}
        run.write_json("metrics.json", {**metrics, "provenance": {"test_files_sha256": tested}, "cost": cost})
        tensors = {"conv.weight": torch.zeros(4, 3, 3, 3), "norm.running_mean": torch.zeros(4)}
        save_file({**tensors, "norm.num_batches_tracked": torch.tensor(1)}, run / "model.safetensors")
    return run


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two models at three seeds each; the second one's last seed failed."""
    folder = tmp_path / "a-sweep"
    for number, (model, seed, accuracy) in enumerate(
        [("cnn2", 1, 0.9), ("cnn2", 2, 0.92), ("cnn2", 3, 0.88), ("cnn5", 1, 0.8), ("cnn5", 2, 0.8), ("cnn5", 3, None)]
    ):
        reason = None if accuracy else "2 problems in the configuration:\n  - <b>a|b</b>: too small\n  - c: too large"
        job(folder, number, f"model={model}", f"seed={seed}", "data.limit=60", accuracy=accuracy, reason=reason)
    return folder


def test_jobs_that_differ_in_seed_or_fold_alone_are_one_row(sweep: Path) -> None:
    table = sweep_table(sweep)
    assert [row.label for row in table.rows] == ["model=cnn2", "model=cnn5"]
    assert [row.finished for row in table.rows] == [3, 2]
    assert table.fixed == {"data.limit": "60"}


def test_folds_are_repeats_and_other_settings_are_not(tmp_path: Path) -> None:
    for number, fold in enumerate((0, 1)):
        for plus, layers in (("++", "[16]"), ("", "[32,16]")):
            job(tmp_path, 10 * number + len(layers), f"data.fold={fold}", f"{plus}model.dense={layers}")
    assert [(row.label, len(row.jobs)) for row in sweep_table(tmp_path).rows] == [
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


def test_a_single_run_keeps_its_own_interval_and_has_no_spread() -> None:
    found = spread(
        "mcc", [{"value": 0.1, "low": -0.3, "high": 0.5, "n": 9}, {"value": None, "low": None, "high": None}]
    )
    assert (found.mean, found.deviation, found.low, found.high, found.runs) == (0.1, None, -0.3, 0.5, 1)


def test_intervals_stay_in_the_metrics_range() -> None:
    two = [{"value": value, "low": value - 0.01, "high": value + 0.01, "n": 9} for value in (0.1, 0.9)]
    assert (spread("accuracy", two).low, spread("accuracy", two).high) == (0, 1)
    assert (spread("mcc", two).low, spread("brier", two).high) == (-1, 2)


def test_the_files_hold_the_numbers_and_the_failures(sweep: Path) -> None:
    table = sweep_table(sweep)
    files = write_sweep(table)
    with files["csv"].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["model"] for row in rows] == ["cnn2", "cnn5"]
    assert float(rows[0]["test/accuracy"]) == pytest.approx(0.9)
    assert float(rows[0]["test/auroc_sd"]) == pytest.approx(0.02)
    assert (rows[0]["parameters"], rows[0]["peak_memory_gb"]) == ("108", "1.5")
    assert float(rows[0]["training_seconds"]) == pytest.approx(11)
    assert rows[1]["failures"] == "seed=3: failed: <b>a|b</b>: too small c: too large"
    text = files["md"].read_text()
    assert "| model=cnn2 | 3 | 0.900 ± 0.020<br>" in text
    assert "- **model=cnn5** seed=3: failed: <b>a|b</b>: too small" in text
    page = files["html"].read_text()
    assert "&lt;b&gt;a|b&lt;/b&gt;: too small" in page
    assert "<b>a|b</b>" not in page
    assert "1 without a result" in page
    assert page.count("data:image/png;base64,") == 2
    assert "http" not in page.replace("http-equiv", "")
    assert (sweep / "accuracy_time.png").is_file()
    assert (sweep / "accuracy_parameters.png").is_file()


def test_medical_data_and_pruned_trials_are_told(sweep: Path) -> None:
    assert "Research only" not in write_sweep(sweep_table(sweep))["html"].read_text()
    (sweep / "2-demo-cnn2" / "config.yaml").write_text("data: {medical: true}\n")
    (sweep / "optuna.yaml").write_text(
        "direction: minimize\nbest_value: 0.25\nbest_params: {optimizer.lr: 0.01}\npruned_after_epoch: {3: 1, 5: 4}\n"
    )
    page = write_sweep(sweep_table(sweep))["html"].read_text()
    assert "<strong>Research only.</strong>" in page
    assert "job 3 (epoch 1), 5 (epoch 4)" in page
    assert "best was optimizer.lr=0.01, with 0.2500" in page


def test_a_sweep_without_any_result_still_has_its_table(tmp_path: Path) -> None:
    job(tmp_path, 0, "model=cnn2", accuracy=None, reason="There are no test images")
    table = sweep_table(tmp_path)
    files = write_sweep(table)
    assert "There are no test images" in files["html"].read_text()
    assert flat_rows(table)[0]["test/accuracy"] is None
    assert "| as configured | 0 of 1 | – |" in markdown(table)


def test_a_job_killed_before_its_first_word_counts_as_interrupted(tmp_path: Path) -> None:
    job(tmp_path, 0, "seed=1")
    killed = tmp_path / "1-demo-cnn2"
    killed.mkdir()
    (killed / "status.json").touch()
    table = sweep_table(tmp_path)
    assert [one.state for one in table.unfinished] == ["interrupted"]


def test_different_test_sets_are_told(tmp_path: Path) -> None:
    job(tmp_path, 0, "seed=1", tested="a")
    job(tmp_path, 1, "seed=2", tested="b")
    assert any("tested on 2 different sets of images" in note for note in sweep_table(tmp_path).notes)


def test_parameters_leave_out_what_no_optimizer_touches(tmp_path: Path) -> None:
    assert parameters_of(job(tmp_path, 0)) == 4 * 3 * 3 * 3


def test_an_empty_folder_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder in it"):
        sweep_table(tmp_path)
