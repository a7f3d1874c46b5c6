"""Several training processes learn what one would, write the same run folder, and survive being stopped and killed."""

import logging
import os
import pickle
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
from raylight.config.launch import load_config
from raylight.config.schema import LossConfig, RunConfig, TrainerConfig
from raylight.data.batches import Batches, Shard
from raylight.data.samples import Samples
from raylight.errors import ConfigError, DataError, RaylightError
from raylight.pipeline.job import resume_run
from raylight.pipeline.run import train
from raylight.runs.run_dir import RunDir, recorded, state_of
from raylight.training.distributed.launch import check_accelerator
from raylight.training.distributed.ray import _cpus_a_worker
from raylight.training.module import classification_loss, loss_weight

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
            train(load_config(config), run, status)

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
    assert "A worker health check failed. Ray starts all of them again, from the last whole epoch." in log
    assert [log.count(f"epoch {epoch}/4") for epoch in (1, 2, 3)] == [1, 1, 1]


def samples(n: int) -> Samples:
    pixels = np.random.default_rng(1).integers(0, 256, (n, 4, 4, 3), dtype=np.uint8)
    return Samples(pixels, np.arange(n), np.arange(n) % 2, tuple(f"hash{i}" for i in range(n)))


@pytest.mark.parametrize("n", [1, 7, 8])
def test_shares_of_a_batch_are_the_batch(n: int) -> None:
    """Each sample once; as many batches in each process, however few samples there are."""
    whole = list(Batches(samples(n), 3, seed=1, shuffle=True))
    shares = [list(Batches(samples(n), 3, seed=1, shuffle=True, shard=Shard(rank, 2))) for rank in range(2)]
    assert [len(share) for share in shares] == [len(whole)] * 2
    for one, *parts in zip(whole, *shares, strict=True):
        together = sorted(torch.cat([part.positions for part in parts]).tolist())
        assert together == sorted(one.positions.tolist())
        assert all(part.inputs.shape[1:] == one.inputs.shape[1:] for part in parts)


@pytest.mark.parametrize("loss", [LossConfig(label_smoothing=0.1), LossConfig(focal_gamma=2.0)])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.3, 3.0, 1.0])])
def test_shares_weighted_by_their_divisors_give_the_loss_of_the_batch(
    loss: LossConfig, weights: torch.Tensor | None
) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(9, 3), torch.tensor([0, 0, 1, 2, 0, 0, 1, 0, 2])
    parts = [slice(0, 2), slice(2, 9)]
    divisors = [float(loss_weight(targets[part], weights)) for part in parts]
    losses = [float(classification_loss(logits[part], targets[part], loss, weights)) for part in parts]
    together = np.average(losses, weights=divisors)
    assert together == pytest.approx(float(classification_loss(logits, targets, loss, weights)), rel=1e-6)


def test_mapped_images_are_sent_by_name_and_their_absence_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "images" / "key" / "pixels.npy"
    file.parent.mkdir(parents=True)
    np.save(file, np.random.default_rng(1).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8))
    data = Samples(np.load(file, mmap_mode="r"), np.arange(50), np.arange(50) % 2, ("key",) * 50)
    packed = pickle.dumps(data)
    assert len(packed) < 5_000
    again = pickle.loads(packed)
    assert isinstance(again.store, np.memmap)
    assert np.array_equal(again.store, data.store)
    file.unlink()
    with pytest.raises(DataError, match=r"pixels\.npy can't be read on .*cache_dir=FOLDER, here .*data\.feed=stream"):
        pickle.loads(packed)


@pytest.mark.parametrize(
    ("workers", "cores", "cpus"), [(2, [2], 1), (2, [2, 2], 2), (3, [2, 2], 1), (3, [8, 2], 2), (1, [3, 5], 5)]
)
def test_workers_get_the_most_cpus_with_which_all_find_room(workers: int, cores: list[int], cpus: int) -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": float(n)}} for n in cores]
    assert _cpus_a_worker(TrainerConfig(launcher="ray", num_workers=workers), nodes) == cpus


def test_workers_without_room_are_refused_instead_of_waited_for() -> None:
    nodes = [{"Alive": True, "Resources": {"CPU": 2.0}}, {"Alive": False, "Resources": {"CPU": 64.0}}]
    with pytest.raises(RaylightError, match=r"num_workers=3 needs a CPU for each .* has 2 CPUs on 1 node\. Lower"):
        _cpus_a_worker(TrainerConfig(launcher="ray", num_workers=3), nodes)
    with pytest.raises(RaylightError, match=r"a CPU and a GPU for each .* has 2 CPUs and 0 GPUs"):
        _cpus_a_worker(TrainerConfig(launcher="ray", accelerator="gpu"), nodes)


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
