"""Several training processes learn what one would, write the same run folder, and survive being stopped and killed."""

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file

import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.config.check import load_config
from raylight.config.schema import RunConfig, TrainerConfig
from raylight.errors import ConfigError
from raylight.pipeline.costs import Costs
from raylight.pipeline.job import resume_run
from raylight.pipeline.run import train
from raylight.runs.run_dir import RunDir, recorded, state_of
from raylight.training.distributed.launch import check_accelerator

CHANGES = {
    "data.kind": "demo",
    "data.limit": 40,
    "decode.engine": "threads",
    "model": {"name": "cnn2", "channels": [4, 8], "dense": [8], "image_size": 32},
    # From cached features first, then from images: the second phase trains what the first didn't know of.
    "finetune.phases": [{"train_from": "head", "epochs": 1}, {"train_from": "all"}],
    "augment.transforms": [{"_target_": "torchvision.transforms.v2.RandomHorizontalFlip"}],
    # The loss rises, so that the first epoch stays the best: a stopped run goes on from its last epoch all the same.
    "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3, "maximize": True},
    "trainer.max_epochs": 4,
    "trainer.batch_size": 9,  # of 64 images: uneven shares, and a last batch that leaves one process without any
    "trainer.precision": "32",
    "trainer.threads": 1,
    "trainer.progress": "lines",
    "logger.name": "none",
    "report.enabled": False,
    "report.plots": False,
}


@pytest.fixture(scope="module", autouse=True)
def fork_server(own_cache: Path) -> None:
    """Starts the fork server with the tests' own preloads before a training names others."""
    forkserver.ensure_running()


@pytest.fixture(autouse=True)
def told(caplog: pytest.LogCaptureFixture) -> None:
    """As a command sets it: ``train.log`` has what is worth knowing."""
    caplog.set_level(logging.INFO, "raylight")


def run_until(folder: Path, act: Callable[[], None] | None = None, epochs: int = 0, **changes: object) -> RunDir:
    """A run in this process; something is done to it once so many epochs are in its history."""
    config = OmegaConf.structured(RunConfig)
    for key, value in (CHANGES | changes).items():
        OmegaConf.update(config, key, value)
    run = RunDir.claim(folder)
    run.write_text("config.yaml", OmegaConf.to_yaml(config, resolve=True))

    def work() -> None:
        with recorded(run) as status:
            train(load_config(config), run, status, Costs())

    disturbed(run, work, act, epochs)
    return run


def disturbed(run: RunDir, work: Callable[[], object], act: Callable[[], None] | None, epochs: int) -> None:
    done = threading.Event()

    def watch() -> None:
        last = run / "checkpoints" / "last.ckpt"
        while not done.is_set():
            if len(history(run)) >= epochs and last.is_file() and newest_epoch(last) >= epochs - 1:
                assert act is not None
                act()
                return
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    if act is not None:
        watcher.start()
    try:
        work()
    finally:
        done.set()
        if act is not None:
            watcher.join()


def newest_epoch(checkpoint: Path) -> int:
    return int(torch.load(checkpoint, weights_only=True)["epoch"])


def history(run: RunDir) -> list[list[float]]:
    """Epoch, phase, learning rate, losses and metrics of each epoch; not how long it took."""
    file = run / "history.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()[1:]] if file.is_file() else []
    return [[float(value or "nan") for place, value in enumerate(row) if place != 2] for row in rows]


def columns(run: RunDir) -> list[str]:
    """What the columns of ``history`` are."""
    names = (run / "history.csv").read_text().splitlines()[0].split(",")
    return names[:2] + names[3:]


def kill_one(name: str) -> Callable[[], None]:
    """Kills a training process, by what its command line contains; the last of those that were started."""

    def act() -> None:
        workers = [p for p in psutil.Process().children(recursive=True) if name in " ".join(p.cmdline())]
        max(workers, key=lambda process: (process.create_time(), process.pid)).kill()

    return act


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The same training in one process, undisturbed."""
    return run_until(tmp_path_factory.mktemp("alone") / "run")


def assert_same(run: RunDir, alone: RunDir) -> None:
    """The same training, and nothing else in the folder."""
    assert state_of(run) == "finished", run.read_json("status.json")
    # Rounding may decide which of two images of nearly the same probability ranks first: one of AUROC's 1,024 pairs.
    ranked = np.array(["auroc" in name or "average_precision" in name for name in columns(run)])
    found, wanted = np.array(history(run)), np.array(history(alone))
    np.testing.assert_allclose(found[:, ~ranked], wanted[:, ~ranked], atol=2e-4)
    np.testing.assert_allclose(found[:, ranked], wanted[:, ranked], atol=2e-3)
    for folder in (run, alone):
        assert [newest_epoch(folder / "checkpoints" / name) for name in ("best.ckpt", "last.ckpt")] == [0, 3]
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (run, alone))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, atol=1e-3, rtol=1e-3)
    measured, expected = (folder.read_json("metrics.json") for folder in (run, alone))
    for name in ("test/accuracy", "test/auroc", "test/brier"):
        assert measured[name]["value"] == pytest.approx(expected[name]["value"], abs=1e-3), name
    files = [sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*")) for folder in (run, alone)]
    assert files[0] == files[1]


def test_two_processes_learn_what_one_does_though_stopped_and_killed(alone: RunDir, tmp_path: Path) -> None:
    """Terminated after the first epoch, one process killed after the third, each time resumed at the next."""
    run = run_until(tmp_path / "run", terminate, 1, **{"trainer.launcher": "processes", "trainer.num_workers": 2})
    assert state_of(run) == "interrupted"
    assert len(history(run)) < 4

    codes: list[int] = []
    disturbed(run, lambda: codes.append(resume_run(run.path)), kill_one("forkserver"), 3)
    status = run.read_json("status.json")
    assert (codes, status["state"]) == ([1], "failed")
    assert "of 2 died (out of memory, or killed)" in status["reason"]
    assert "raylight resume RUN" in status["reason"]

    assert resume_run(run.path) == 0
    assert_same(run, alone)
    log = (run / "train.log").read_text()
    assert [log.count(f"epoch {epoch}/4") for epoch in range(1, 5)] == [1, 1, 1, 1]


@pytest.mark.long
def test_ray_workers_learn_what_one_process_does_though_one_is_killed(alone: RunDir, tmp_path: Path) -> None:
    """Ray Train starts both again; they go on from the last checkpoint, which lies with the driver."""
    run = run_until(
        tmp_path / "run",
        kill_one("RayTrainWorker"),
        3,
        **{"trainer.launcher": "ray", "trainer.num_workers": 2, "trainer.max_failures": 1, "ray.object_store_gb": 0.1},
    )
    assert_same(run, alone)
    log = (run / "train.log").read_text()
    assert "Training in 2 Ray workers of " in log
    assert "A worker health check failed. Ray restarts all of them, from the last complete epoch." in log
    assert [log.count(f"epoch {epoch}/4") for epoch in (1, 2, 3)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("averaging", "launcher"), [("swa", "processes"), pytest.param("ema", "ray", marks=pytest.mark.long)]
)
def test_processes_average_the_weights_that_one_does(averaging: str, launcher: str, tmp_path: Path) -> None:
    """Judged, saved and shipped: in two phases, the second of which begins a new average."""
    falling = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3}
    changes = {"trainer.averaging": averaging, "trainer.ema_decay": 0.9, "optimizer": falling, "trainer.max_epochs": 3}
    alone = run_until(tmp_path / "alone", **changes)
    processes = {"trainer.launcher": launcher, "trainer.num_workers": 2, "ray.object_store_gb": 0.1}
    run = run_until(tmp_path / "run", **changes, **processes)
    losses = [name.endswith("/loss") for name in columns(run)]
    np.testing.assert_allclose(np.array(history(run))[:, losses], np.array(history(alone))[:, losses], atol=2e-4)
    saved = [torch.load(one / "checkpoints/last.ckpt", weights_only=True) for one in (run, alone)]
    best = [torch.load(one / "checkpoints/best.ckpt", weights_only=True)["state_dict"] for one in (run, alone)]
    for name, shipped in load_file(run / "model.safetensors").items():
        averages = [state["state_dict"][f"network.{name}"] for state in saved]
        torch.testing.assert_close(*averages, atol=1e-3, rtol=0)
        torch.testing.assert_close(shipped, best[1][f"network.{name}"], atol=1e-3, rtol=0)
        assert torch.equal(shipped, best[0][f"network.{name}"])
    current = saved[0]["current_model_state"]
    assert max(float((current[name] - value).abs().max()) for name, value in saved[0]["state_dict"].items()) > 2e-3


RESNET = {"name": "resnet18", "family": "torchvision", "image_size": 32}


def test_two_processes_share_a_last_batch_of_one_under_batch_norm(tmp_path: Path) -> None:
    """64 images in batches of 63; below 33 pixels the last BatchNorm layers have one value per channel and image."""
    changes = {"model": RESNET, "finetune.phases": [{}], "trainer.max_epochs": 1, "trainer.batch_size": 63}
    run = run_until(tmp_path / "run", **changes, **{"trainer.launcher": "processes", "trainer.num_workers": 2})
    assert state_of(run) == "finished", run.read_json("status.json")
    assert newest_epoch(run / "checkpoints" / "last.ckpt") == 0


def test_too_few_images_for_the_processes_are_refused_before_any_work(tmp_path: Path) -> None:
    """BatchNorm needs two images in each process, and a batch has at most as many as there are to train on: three here."""
    changes = {"model": RESNET, "finetune.phases": [{}], "data.limit": 3, "trainer.batch_size": 4}
    run = run_until(tmp_path / "run", **changes, **{"trainer.launcher": "processes", "trainer.num_workers": 2})
    status = run.read_json("status.json")
    assert (status["exit_code"], status["stage"]) == (2, "indexing")
    assert "trainer.batch_size: 4 is larger than the" in status["reason"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_missing_gpu_ends_a_run_before_any_work(tmp_path: Path) -> None:
    run = run_until(tmp_path / "run", **{"trainer.accelerator": "gpu", "trainer.launcher": "processes"})
    status = run.read_json("status.json")
    assert (status["exit_code"], status["stage"]) == (2, "starting")
    assert "trainer.accelerator: gpu with trainer.num_workers=1 needs as many GPUs" in status["reason"]
    assert not (run / "index.parquet").exists()


def test_gpus_of_a_cluster_are_not_looked_for_here() -> None:
    check_accelerator(TrainerConfig(accelerator="gpu", launcher="ray", num_workers=8))
    if not torch.cuda.is_available():
        with pytest.raises(ConfigError):
            check_accelerator(TrainerConfig(accelerator="gpu", launcher="processes"))
