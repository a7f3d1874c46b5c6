"""Lightning's Trainer for a run: which epochs the checkpoints hold, and what an epoch's loss is."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as nnf

from raylight.config.schema import LossConfig, ModelConfig, TrainerConfig
from raylight.cpu.settings import CpuSettings
from raylight.data.samples import Samples
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.runs.run_dir import RunDir
from raylight.training.loaders import EpochLoaders
from raylight.training.messages import FinishedTraining
from raylight.training.module import Classifier
from raylight.training.optimization import Optimization
from raylight.training.phases import Phase
from raylight.training.trainer import fit

MODEL = ModelConfig(channels=[4], dense=[4], image_size=16)


def samples(targets: list[int], seed: int) -> Samples:
    pixels = np.random.default_rng(seed).integers(0, 256, (len(targets), 16, 16, 3), dtype=np.uint8)
    return Samples(pixels, np.arange(len(targets)), np.array(targets), tuple(f"hash{i}" for i in range(len(targets))))


def trained(
    folder: Path, weights: torch.Tensor | None = None, lr: float = 0.05, maximize: bool = False
) -> tuple[FinishedTraining, Classifier]:
    """Five epochs of a tiny network; with ``maximize`` its loss rises from epoch to epoch."""
    torch.manual_seed(0)
    phases = (Phase(0, 5, 0, 0, None, 1.0),)
    classifier = Classifier(
        build_network(MODEL, 2),
        Preprocessing.from_config(MODEL),
        phases,
        Optimization({"_target_": "torch.optim.SGD", "lr": lr, "maximize": maximize}, None, per_phase=False),
        LossConfig(),
        weights,
        2,
        1,
        channels_last=False,
        seed=1,
    )
    train, val = samples([0] * 19 + [1], 1), samples([0] * 19 + [1], 2)
    loaders = EpochLoaders(train, val, phases, lambda *_: pytest.fail("nothing is frozen"), None, 7, 1, None)
    config = TrainerConfig(max_epochs=5, progress="off")
    run = RunDir.claim(folder / "run")
    return fit(classifier, loaders, config, CpuSettings("32", False, 1, ""), run, False), classifier


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / "run" / "history.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_best_and_last_hold_their_epochs_where_the_loss_rises(tmp_path: Path) -> None:
    finished, _ = trained(tmp_path, maximize=True)
    losses = [row["val/loss"] for row in history(tmp_path)]
    assert losses == sorted(losses)
    checkpoints = tmp_path / "run" / "checkpoints"
    epochs = {path.name: torch.load(path, weights_only=True)["epoch"] for path in checkpoints.iterdir()}
    assert epochs == {"best.ckpt": 0, "last.ckpt": 4}
    assert finished.best_epoch == 0


def test_the_validation_loss_is_the_weighted_loss_of_all_images(tmp_path: Path) -> None:
    """19 images of one class and 1 of the other, in batches of 7, 7 and 6; nothing is learnt at a rate of nearly 0."""
    weights = torch.tensor([0.5, 10.0])
    _, classifier = trained(tmp_path, weights, lr=1e-30)
    val = samples([0] * 19 + [1], 2)
    with torch.no_grad():
        logits = classifier.eval()(torch.from_numpy(val.store).permute(0, 3, 1, 2))
    expected = nnf.cross_entropy(logits, torch.from_numpy(val.targets), weight=weights)
    assert history(tmp_path)[-1]["val/loss"] == pytest.approx(float(expected), abs=2e-6)
