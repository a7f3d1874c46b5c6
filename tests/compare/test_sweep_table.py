"""The table of a sweep: what becomes one row, what its numbers are, how failures are shown."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scipy.stats import t

from raylight.compare.sweep_files import flat_rows, markdown, write_sweep
from raylight.compare.sweep_table import sweep_table
from raylight.config.metric_names import METRICS
from raylight.errors import RunError
from raylight.evaluation.random_effects import spread
from raylight.report.facts import parameters_of
from raylight.runs.run_dir import RunDir
from tests.compare.test_study import run_folder


def job(
    sweep: Path,
    number: int,
    *overrides: str,
    accuracy: float | None = 0.9,
    reason: str | None = None,
    tested: str = "same",
    validation: tuple[str, float] | None = None,
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
        provenance: dict[str, object] = {"test_files_sha256": tested}
        if validation is not None:
            provenance |= {"selected_by": validation[0], "selected_value": validation[1]}
            metrics["val/accuracy"] = {"value": accuracy - 0.1, "low": accuracy - 0.15, "high": accuracy, "n": 60}
        cost = {"seconds": {"training": 10.0 + number}, "peak_memory_gb": 1.5}
        run.write_json("metrics.json", {**metrics, "provenance": provenance, "cost": cost})
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
    assert (found.mean, found.deviation, found.low, found.high, found.values) == (0.1, None, -0.3, 0.5, (0.1,))


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
    assert "job 3 (epoch 2), 5 (epoch 5)" in page
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


def test_different_test_sets_are_told_with_their_reason(tmp_path: Path) -> None:
    for number, tested in enumerate("ab"):
        job(tmp_path / "seeds", number, f"seed={number}", tested=tested)
        job(tmp_path / "roots", number, f"data.root={number}", tested=tested)
    (of_seeds,) = (note for note in sweep_table(tmp_path / "seeds").notes if "tested on" in note)
    assert "2 different sets of images, because their splits have different seeds" in of_seeds
    (of_roots,) = (note for note in sweep_table(tmp_path / "roots").notes if "tested on" in note)
    assert "(data.root differs)" in of_roots
    assert "seed" not in of_roots


def test_validation_chooses_whatever_test_says(tmp_path: Path) -> None:
    for number, (model, accuracy, loss) in enumerate(
        [("a", 0.95, 0.4), ("a", 0.97, 0.5), ("b", 0.9, 0.3), ("b", 0.8, 0.2)]
    ):
        job(tmp_path, number, f"model={model}", f"seed={number % 2}", accuracy=accuracy, validation=("val/loss", loss))
    table = sweep_table(tmp_path)
    assert table.choice is not None
    assert (table.choice.by, table.choice.row.label, table.choice.candidates) == ("val/loss", "model=b", 2)
    text = markdown(table)
    assert "| configuration | runs | val/loss |" in text
    assert "| **model=b** | 2 | 0.250 ± 0.071 |" in text
    assert "| model=a | 2 | 0.450 ± 0.071 |" in text
    page = write_sweep(table)["html"].read_text()
    assert page.count("chosen by validation") == 1
    with (tmp_path / "comparison.csv").open() as file:
        assert [row["chosen"] for row in csv.DictReader(file)] == ["0", "1"]


def test_losses_of_different_loss_settings_do_not_choose(tmp_path: Path) -> None:
    for number, (loss, accuracy, value) in enumerate([("focal", 0.8, 0.1), ("cross_entropy", 0.9, 0.3)]):
        job(tmp_path, number, f"loss={loss}", accuracy=accuracy, validation=("val/loss", value))
    choice = sweep_table(tmp_path).choice
    assert choice is not None
    assert (choice.by, choice.row.label) == ("val/accuracy", "loss=cross_entropy")


def test_the_flattery_of_the_best_is_estimated_from_the_validation_images(tmp_path: Path) -> None:
    """Twelve equal recipes, each right on 9 of 10 images in truth: the best of them looks better than that."""
    rng = np.random.default_rng(0)
    for number in range(12):
        wrong = set(np.flatnonzero(rng.uniform(size=40) < 0.1).tolist())
        run_folder(
            tmp_path / f"sweep/{number}", tmp_path / "data", wrong, split="val", overrides=(f"optimizer.lr={number}",)
        )
    table = sweep_table(tmp_path / "sweep")
    assert table.choice is not None
    assert table.choice.candidates == 12
    assert table.choice.optimism is not None
    assert 0.02 < table.choice.optimism < 0.12
    assert f"flattered by about {table.choice.optimism:.3f}" in markdown(table)


def test_two_runs_are_drawn_themselves_and_a_third_is_told(tmp_path: Path) -> None:
    for number, accuracy in enumerate((0.7, 0.8)):
        job(tmp_path, number, f"seed={number}", accuracy=accuracy)
    table = sweep_table(tmp_path)
    accuracy = table.rows[0].metrics["accuracy"]
    assert accuracy.worth_another is not None
    half = t.ppf(0.975, 2) * np.std([0.7, 0.8], ddof=1) / 3**0.5
    assert accuracy.worth_another.low == pytest.approx(0.75 - np.hypot(half, 0.05))
    assert f"with a third:<br>{accuracy.worth_another.low:.3f} to" in markdown(table)
    page = write_sweep(table)["html"].read_text()
    assert page.count('<s class="run"') == 2
    assert "<i style" not in page
    job(tmp_path, 2, "seed=2", accuracy=0.75)
    page = write_sweep(sweep_table(tmp_path))["html"].read_text()
    assert page.count('<s class="run"') == 3
    assert page.count("<i style") == 1


def test_runs_deeper_than_the_sweep_are_found(tmp_path: Path) -> None:
    """As hydra.sweep.subdir='${data.name}/${seed}' puts them."""
    for seed in (1, 2):
        job(tmp_path / "demo" / str(seed), 0, f"seed={seed}").path.rename(tmp_path / "demo" / f"s{seed}")
    table = sweep_table(tmp_path)
    assert [row.finished for row in table.rows] == [2]
    assert flat_rows(table)[0]["runs"] == "demo/s1 demo/s2"


def test_parameters_leave_out_what_no_optimizer_touches(tmp_path: Path) -> None:
    assert parameters_of(job(tmp_path, 0)) == 4 * 3 * 3 * 3


def test_an_empty_folder_is_no_sweep(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run folder in it"):
        sweep_table(tmp_path)
