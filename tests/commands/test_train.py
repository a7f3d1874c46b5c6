"""``python train.py`` as a user runs it: what it prints, what it leaves behind, how it exits."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raylight.data.sources.demo import demo_root, draw_demo
from tests.forked import ROOT, last_line

Train = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ("trainer.max_epochs=2", "trainer.threads=1", "data.limit=40", "model.image_size=32", "decode=threads")
NO_PAGES = ("report.enabled=false", "report.plots=false")


@pytest.fixture(scope="module")
def finished(python: Train, tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """A run with all defaults but its length: threads decode so few images, W&B logs offline."""
    folder = tmp_path_factory.mktemp("defaults")
    begin = time.perf_counter()
    done = python("train.py", "trainer.max_epochs=6", cwd=folder)
    (folder / "seconds").write_text(str(time.perf_counter() - begin))
    assert done.returncode == 0, done.stdout + done.stderr
    return done, last_line(done)


def metrics_of(run: Path) -> dict[str, object]:
    """The metrics of a run, without what depends on the clock."""
    values: dict[str, dict[str, object]] = json.loads((run / "metrics.json").read_text())
    return {name: value for name, value in values.items() if name != "cost"}


def test_the_run_folder_keeps_its_contract(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, run = finished
    names = {path.name for path in run.iterdir()}
    assert names >= {
        "config.yaml",
        "environment.json",
        "status.json",
        "index.parquet",
        "rejected.csv",
        "history.csv",
        "metrics.json",
        "predictions.csv",
        "checkpoints",
        "model.safetensors",
        "preprocessing.json",
        "plots",
        "train.log",
        "wandb",
    }
    assert run.parent.name == "demo-cnn2"
    assert {path.name for path in (run / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert {path.name for path in (run / "plots").iterdir()} >= {
        "loss.png",
        "accuracy.png",
        "confusion_matrix.png",
        "roc.png",
    }
    assert json.loads((run / "status.json").read_text())["state"] == "finished"
    assert not list(run.rglob("*.tmp"))


def test_every_test_metric_has_an_interval_and_n(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, run = finished
    metrics = json.loads((run / "metrics.json").read_text())
    names = [
        "accuracy",
        "balanced_accuracy",
        "precision",
        "recall",
        "specificity",
        "f1",
        "auroc",
        "average_precision",
        "mcc",
        "ece",
        "brier",
    ]
    for name in names:
        estimate = metrics[f"test/{name}"]
        assert estimate["low"] <= estimate["value"] <= estimate["high"]
        assert estimate["n"] > 0
    assert metrics["test/accuracy"]["n"] == 60
    assert metrics["test/accuracy"]["value"] > 0.75
    assert "95 % interval" in done.stdout


def test_the_stages_add_up_to_the_whole_command(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, run = finished
    cost = json.loads((run / "metrics.json").read_text())["cost"]
    seconds = float((run.parents[2] / "seconds").read_text())
    assert 0.97 * seconds <= sum(cost["seconds"].values()) <= seconds
    assert cost["cpu_seconds"].keys() == cost["seconds"].keys()
    assert sum(cost["cpu_seconds"].values()) <= seconds * (os.cpu_count() or 1)


def test_predictions_and_metrics_agree(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, run = finished
    rows = [row for row in csv.DictReader((run / "predictions.csv").open()) if row["split"] == "test"]
    correct = sum(row["label"] == row["predicted"] for row in rows)
    assert json.loads((run / "metrics.json").read_text())["test/accuracy"]["value"] == pytest.approx(
        correct / len(rows)
    )


def test_broken_files_are_quarantined_by_name(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, run = finished
    rejected = list(csv.DictReader((run / "rejected.csv").open()))
    assert len(rejected) == 3
    assert all(row["reason"] for row in rejected)
    assert "3 of 603 files can't be used" in done.stdout


def test_the_terminal_stays_readable(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """No chatter of libraries: our lines, the result, and the folder last."""
    done, run = finished
    assert "Warning" not in done.stdout + done.stderr
    assert "INFO" not in done.stdout + done.stderr
    assert len(done.stdout.splitlines()) < 40
    assert done.stdout.splitlines()[-1] == str(run)


def test_wandb_holds_config_curves_and_summary(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    """Read back from the offline file by W&B's own reader."""
    _, run = finished
    (file,) = (run / "wandb").glob("offline-run-*/run-*.wandb")
    inspect = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(file)]
    lines = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.splitlines()
    records = [json.loads(line) for line in lines]
    logged = {key for record in records if record["type"] == "history" for key in record["history"]["item"]}
    assert {"train/loss", "val/loss", "val/accuracy", "plots/roc.path", "plots/confusion_matrix.path"} <= logged
    (config,) = [record["run"]["config"]["update"] for record in records if record["type"] == "run"]
    assert (config["seed"], config["model"]["name"]) == (1, "cnn2")
    summary = {key for record in records if record["type"] == "summary" for key in record["summary"]["update"]}
    assert {"test/accuracy", "test/accuracy_low", "test/accuracy_high"} <= summary
    (ended,) = [record["exit"] for record in records if record["type"] == "exit"]
    assert ended.get("exit_code", 0) == 0


def test_a_second_run_decodes_nothing_and_repeats_the_first(
    finished: tuple[subprocess.CompletedProcess[str], Path], python: Train, tmp_path: Path
) -> None:
    """From the run folder's own config, bit for bit; what is drawn and sent elsewhere changes no metric.

    What it doesn't use it doesn't import either: Ray, torch's compiler and SciPy's statistics are a third of the processor
    time of a short command.
    """
    _, run = finished
    own_config = ("--config-path", str(run), "--config-name", "config", "logger.name=none", *NO_PAGES)
    again = python("train.py", *own_config, cwd=tmp_path, PYTHONPROFILEIMPORTTIME="1")
    assert again.returncode == 0, again.stdout + again.stderr
    assert "decoding" not in again.stdout
    assert metrics_of(last_line(again)) == metrics_of(run)
    assert last_line(again) != run
    modules = set(re.findall(r"^import time:.*\| *(\S+)$", again.stderr, re.MULTILINE))
    assert {
        "torch.optim.adam",
        "torchvision.ops.roi_align",
        "raylight.cpu.fusing",
        "torchmetrics.functional.audio",
    } <= modules
    assert not {"ray", "sympy", "torch._inductor", "torch._dynamo.eval_frame", "scipy.signal", "scipy.stats"} & modules


@pytest.mark.long
def test_both_decoders_lead_to_the_same_metrics(train: Train, own_cache: Path, tmp_path: Path) -> None:
    draw_demo(demo_root(own_cache))  # unless a run has
    short = (*SHORT, *NO_PAGES, "logger=none", "data=folder", f"data.root={demo_root(own_cache)}")
    runs = [
        last_line(train(*short, f"decode={engine}", f"cache_dir={tmp_path}/{engine}", cwd=tmp_path))
        for engine in ("ray", "threads")
    ]
    assert metrics_of(runs[0]) == metrics_of(runs[1])


def test_a_multirun_leaks_nothing_and_survives_a_failing_job(train: Train, tmp_path: Path) -> None:
    """The second job's batch is larger than its data; the others equal single runs with the same settings."""
    counted = ("allowed_targets=[tests]", "callbacks=[{_target_: tests.commands.alive.Networks}]")
    done = train("-m", *SHORT, *NO_PAGES, *counted, "trainer.batch_size=16,4000,4,8", "logger=csv", cwd=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.findall("networks alive: .*", done.stdout) == ["networks alive: 1"] * 3
    runs = sorted((tmp_path / "outputs" / "sweeps").glob("*/*/status.json"))
    states = [json.loads(path.read_text()) for path in runs]
    assert [state["state"] for state in states] == ["finished", "failed", "finished", "finished"]
    assert "trainer.batch_size: 4000 is larger than the 64 training images" in states[1]["reason"]
    assert "batch_size: 4000" in (runs[1].parent / "train.log").read_text()
    alone = last_line(train(*SHORT, *NO_PAGES, "trainer.batch_size=8", "logger=csv", cwd=tmp_path))
    assert metrics_of(alone) == metrics_of(runs[3].parent)


def test_weights_that_can_not_be_downloaded_name_both_ways_out(train: Train, tmp_path: Path) -> None:
    """An unreachable proxy stands for a machine without network."""
    done = train(
        *SHORT,
        "model=mobilenet_v2",
        "model.image_size=32",
        "finetune=full",
        "logger=none",
        cwd=tmp_path,
        https_proxy="http://127.0.0.1:9",
        HTTPS_PROXY="http://127.0.0.1:9",
        TORCH_HOME=str(tmp_path / "torch"),
    )
    assert done.returncode == 2
    assert "model.weights=null" in done.stderr
    assert "model.weights=/" in done.stderr
    assert list(tmp_path.glob("outputs")) == []
    assert "Traceback" not in done.stdout + done.stderr


def test_sigterm_ends_with_143_and_says_so(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "train.py"), *SHORT, "trainer.max_epochs=100000", "logger=none"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ,
    )
    deadline = time.monotonic() + 90
    while not list(tmp_path.glob("outputs/*/*/checkpoints/last.ckpt")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 143, output
    (status,) = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/*/*/status.json")]
    assert (status["state"], status["reason"], status["exit_code"]) == ("interrupted", "terminated (SIGTERM)", 143)


@pytest.mark.parametrize("augment", ["rotate_zoom_flip"])
def test_two_phases_of_fine_tuning_run_from_cached_features(augment: str, train: Train, tmp_path: Path) -> None:
    """A state dict of our own stands in for pretrained weights."""
    import torch
    import torchvision

    weights = tmp_path / "weights.pt"
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), weights)
    done = train(
        *SHORT,
        *NO_PAGES,
        "model=mobilenet_v2",
        "model.image_size=64",
        f"model.weights={weights}",
        "finetune=two_phase",
        "finetune.phases=[{train_from:head,epochs:2},{train_from:last_blocks,learning_rate:1e-5}]",
        "finetune.views=2",
        f"augment={augment}",
        "trainer.max_epochs=4",
        "logger=none",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    run = last_line(done)
    history = list(csv.DictReader((run / "history.csv").open()))
    assert [row["phase"] for row in history] == ["0", "0", "1", "1"]
    assert [float(row["learning_rate"]) for row in history] == [1e-3, 1e-3, 1e-5, 1e-5]
    assert "Computed the frozen layers below" in done.stdout
    assert OmegaConf.load(run / "config.yaml").finetune.views == 2


@pytest.mark.real_data
def test_real_films_get_a_result_with_their_own_test_split(train: Train, real_data: Path, tmp_path: Path) -> None:
    done = train(
        "data=xray",
        f"data.root={real_data}/xray_dataset_covid19",
        "model.image_size=64",
        "trainer.max_epochs=2",
        *NO_PAGES,
        "decode=threads",
        "logger=none",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Test: 40 images" in done.stdout
    assert json.loads((last_line(done) / "metrics.json").read_text())["test/accuracy"]["n"] == 40
