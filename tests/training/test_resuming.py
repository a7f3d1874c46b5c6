"""A run that was stopped and resumed ends like one that never stopped: before, at and after the switch of phases."""

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch
import torchvision
from omegaconf import OmegaConf

from raylight.config.launch import load_config
from raylight.config.schema import RunConfig
from raylight.pipeline import resume_run, train
from raylight.runs.run_dir import RunDir, recorded, state_of


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> RunConfig:
    """Two phases of two epochs on a small MobileNetV2 with dropout and augmented views."""
    weights = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), weights)
    config = OmegaConf.structured(RunConfig)
    changes = {
        "data.kind": "demo",
        "data.limit": 24,
        "decode.engine": "threads",
        "model": {
            "name": "mobilenet_v2",
            "family": "torchvision",
            "weights": str(weights),
            "image_size": 64,
            "normalize": "imagenet",
            "dropout": 0.3,
            "last_blocks_from": "features.17",
        },
        "finetune.phases": [
            {"train_from": "head", "epochs": 2},
            {"train_from": "last_blocks", "learning_rate": 1e-4},
        ],
        "finetune.views": 2,
        "augment.transforms": [{"_target_": "torchvision.transforms.v2.RandomHorizontalFlip"}],
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3},
        "trainer.max_epochs": 4,
        "trainer.batch_size": 8,
        "trainer.progress": "off",
        "logger.name": "none",
        "report.enabled": False,
        "report.plots": False,
    }
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    return load_config(config)


def run_until(settings: RunConfig, folder: Path, epochs: int | None) -> RunDir:
    """A run in this process; stopped by a real SIGTERM once so many epochs are in its history."""
    run = RunDir.claim(folder)
    run.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings), resolve=True))
    done = threading.Event()

    def stop() -> None:
        history = folder / "history.csv"
        while not done.is_set():
            if (
                history.is_file()
                and len(history.read_text().splitlines()) > (epochs or 0)
                and (folder / "checkpoints" / "last.ckpt").is_file()
            ):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.002)

    watcher = threading.Thread(target=stop)
    if epochs is not None:
        watcher.start()
    with recorded(run) as status:
        train(load_config(OmegaConf.load(run / "config.yaml")), run, status)  # type: ignore[arg-type]
    done.set()
    if epochs is not None:
        watcher.join()
    return run


@pytest.fixture(scope="module")
def undisturbed(settings: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The run that never stopped."""
    return run_until(settings, tmp_path_factory.mktemp("undisturbed") / "run", None)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_stopped_and_resumed_run_equals_one_that_never_stopped(
    epochs: int, settings: RunConfig, undisturbed: RunDir, tmp_path: Path
) -> None:
    run = run_until(settings, tmp_path / "run", epochs)
    assert state_of(run) == "interrupted"
    assert resume_run(run.path) == 0
    assert state_of(run) == "finished"
    assert (run / "predictions.csv").read_bytes() == (undisturbed / "predictions.csv").read_bytes()
    learned = [
        [line.split(",")[:2] + line.split(",")[3:] for line in (folder / "history.csv").read_text().splitlines()]
        for folder in (run, undisturbed)
    ]
    assert learned[0] == learned[1]


def test_a_finished_run_is_left_alone(undisturbed: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    before = (undisturbed / "metrics.json").stat().st_mtime_ns
    assert resume_run(undisturbed.path) == 0
    assert (undisturbed / "metrics.json").stat().st_mtime_ns == before
