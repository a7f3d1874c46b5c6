"""Five epochs of a tiny network on 20 drawn images, in well under a second: what tests of training's settings start from."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from raylight.config.schema import LossConfig, ModelConfig, TrainerConfig
from raylight.cpu.settings import CpuSettings
from raylight.data.samples import Samples
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.runs.run_dir import RunDir
from raylight.training.loaders import EpochLoaders, FeatureSources, Sampling
from raylight.training.losses import Loss
from raylight.training.messages import FinishedTraining
from raylight.training.module import Classifier, Task
from raylight.training.optimization import Optimization
from raylight.training.phases import Phase, TrainingPlan
from raylight.training.trainer import Placement, Training, fit

MODEL = ModelConfig(channels=[4], dense=[4], image_size=16)
SGD = {"_target_": "torch.optim.SGD", "lr": 0.05}
RISING = SGD | {"maximize": True}
"""With it the loss rises from epoch to epoch."""
PHASES = (Phase(0, 5, 0, 0, None, 1.0),)


def samples(targets: list[int], seed: int, size: int = 16) -> Samples:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(targets), size, size, 3), dtype=np.uint8)
    return Samples(pixels, np.arange(len(targets)), np.array(targets), tuple(f"hash{i}" for i in range(len(targets))))


TRAIN, VAL = samples([0] * 19 + [1], 1), samples([0] * 19 + [1], 2)


def classifier(
    model: ModelConfig = MODEL,
    phases: tuple[Phase, ...] = PHASES,
    optimizer: dict[str, Any] = SGD,
    loss: LossConfig | None = None,
    weights: Tensor | None = None,
) -> Classifier:
    torch.manual_seed(0)
    return Classifier(
        build_network(model, 2),
        Preprocessing.from_config(model),
        TrainingPlan(phases, Optimization(optimizer, None, per_phase=False), Loss(loss or LossConfig(), weights)),
        Task(2, 1),
        channels_last=False,
        seed=1,
    )


def loaders_of(learner: Classifier, train: Samples = TRAIN, val: Samples = VAL, batch_size: int = 7) -> EpochLoaders:
    return EpochLoaders(
        train, val, learner.phases, FeatureSources(no_features, no_features), None, Sampling(batch_size, 1)
    )


def no_features(*_: Any) -> Samples:
    """Can be sent to another process, unlike a lambda."""
    pytest.fail("nothing is frozen")


def trained(
    folder: Path,
    learner: Classifier,
    *callbacks: pl.Callback,
    batch_size: int = 7,
    resume_from: Path | None = None,
    images: tuple[Samples, Samples] = (TRAIN, VAL),
    **config: Any,
) -> FinishedTraining:
    """Training in ``folder/run``, with settings of the trainer, on images to train and to validate on."""
    loaders = loaders_of(learner, *images, batch_size=batch_size)
    settings = TrainerConfig(**{"max_epochs": 5, "progress": "off"} | config)
    run = RunDir.claim(folder / "run") if resume_from is None else RunDir(folder / "run")
    cpu = CpuSettings("32", False, 1, "")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # five times as fast as two at this size
    try:
        return fit(Training(learner, loaders, settings, cpu), run, False, resume_from, Placement(callbacks=callbacks))
    finally:
        torch.set_num_threads(threads)


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "run" / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def checkpoint(folder: Path, name: str) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "run" / "checkpoints" / name, weights_only=True)
    return state
