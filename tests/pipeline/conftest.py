"""A fold whose training gets worse with each epoch: the first epoch is the best, the last is another network."""

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from raylight.config.check import load_config
from raylight.config.schema import RunConfig
from raylight.pipeline.costs import Costs
from raylight.pipeline.run import train
from raylight.runs.run_dir import RunDir, recorded
from tests.trained_run import draw


@dataclass(frozen=True)
class WorseningRun:
    """A finished run.

    Attributes:
        run: its folder.
        images: the folder of its images.
        objective: what ``train`` returned.
    """

    run: RunDir
    images: Path
    objective: float


@pytest.fixture(scope="package")
def worsening(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> WorseningRun:
    folder = tmp_path_factory.mktemp("worsening")
    for label in ("left", "right"):
        draw(folder / "photos", label, 16, 1)
    config = OmegaConf.structured(RunConfig)
    changes = {
        "data.root": str(folder / "photos"),
        "data.folds": 4,
        "data.fold": 1,
        "decode.engine": "threads",
        "model": {"name": "cnn2", "channels": [4], "dense": [4], "image_size": 16},
        "optimizer": {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.05, "maximize": True},
        "trainer.max_epochs": None,
        "finetune.samples": 96,  # of 32 images, three epochs
        "trainer.batch_size": 4,
        "trainer.precision": "32",
        "trainer.threads": 1,
        "trainer.progress": "off",
        "logger.name": "none",
        "report.enabled": False,
        "report.plots": False,
        "decision.unknown": 0.3,
    }
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    run = RunDir.claim(folder / "run")
    run.write_text("config.yaml", OmegaConf.to_yaml(config))
    objective = float("nan")
    threads = torch.get_num_threads()
    with recorded(run) as status:
        objective = train(load_config(config), run, status, Costs())
    assert status.exit_code == 0, run.read_json("status.json")
    assert torch.get_num_threads() == threads  # as it was before the run
    return WorseningRun(run, folder / "photos", objective)
