"""Lightning's Trainer for a run: which epochs the checkpoints hold, and what an epoch's loss is."""

import math
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from torch.nn import functional as nnf

from raylight.config.schema import FinetuneConfig, ModelConfig
from raylight.models.build import build_network
from raylight.training.module import Classifier
from raylight.training.optimization import Optimization
from raylight.training.phases import Phase, plan_phases
from tests.training.tiny import RISING, SGD, VAL, checkpoint, classifier, history, trained


def test_best_and_last_hold_their_epochs_where_the_loss_rises(tmp_path: Path) -> None:
    finished = trained(tmp_path, classifier(optimizer=RISING))
    losses = [row["val/loss"] for row in history(tmp_path)]
    assert losses == sorted(losses)
    checkpoints = tmp_path / "run" / "checkpoints"
    epochs = {path.name: checkpoint(tmp_path, path.name)["epoch"] for path in checkpoints.iterdir()}
    assert epochs == {"best.ckpt": 0, "last.ckpt": 4}
    assert finished.best_epoch == 0


def test_the_mode_decides_which_epoch_is_best(tmp_path: Path) -> None:
    finished = trained(tmp_path, classifier(optimizer=RISING), monitor_mode="max")
    assert finished.best_epoch == 4
    assert checkpoint(tmp_path, "best.ckpt")["epoch"] == 4


def test_training_stops_once_patience_is_over(tmp_path: Path) -> None:
    """Epoch 0 is best where the loss rises, and epoch 4 where the loss is to rise."""
    assert trained(tmp_path / "falls", classifier(optimizer=RISING), patience=2).epochs == 3
    assert trained(tmp_path / "rises", classifier(optimizer=RISING), patience=2, monitor_mode="max").epochs == 5


def test_a_clipped_gradient_is_no_longer_than_allowed(tmp_path: Path) -> None:
    """One step of SGD at a rate of 1 moves the weights by the gradient."""
    learner = classifier(optimizer=SGD | {"lr": 1.0})
    before = torch.nn.utils.parameters_to_vector(learner.parameters()).detach()
    trained(tmp_path, learner, batch_size=20, max_epochs=1, gradient_clip=1e-3)
    step = torch.nn.utils.parameters_to_vector(learner.parameters()) - before
    assert float(step.detach().norm()) == pytest.approx(1e-3, rel=1e-2)


def test_the_validation_loss_is_the_weighted_loss_of_all_images(tmp_path: Path) -> None:
    """19 images of one class and 1 of the other, in batches of 7, 7 and 6; nothing is learnt at a rate of nearly 0."""
    weights = torch.tensor([0.5, 10.0])
    learner = classifier(optimizer=SGD | {"lr": 1e-30}, weights=weights)
    trained(tmp_path, learner)
    with torch.no_grad():
        logits = learner.eval()(torch.from_numpy(VAL.store).permute(0, 3, 1, 2))
    expected = nnf.cross_entropy(logits, torch.from_numpy(VAL.targets), weight=weights)
    assert history(tmp_path)[-1]["val/loss"] == pytest.approx(float(expected), abs=2e-6)


def test_a_last_batch_of_one_trains_under_batch_norm(tmp_path: Path) -> None:
    """20 images in batches of 19: at the network's end BatchNorm sees a single value per channel and image."""
    model = ModelConfig(name="resnet18", family="torchvision", image_size=32)
    phases = plan_phases(build_network(model, 2), FinetuneConfig(), 1, None)
    learner = classifier(model, phases)
    trained(tmp_path, learner, batch_size=19, max_epochs=1)
    assert learner.trainer.global_step == 1


class Rates(pl.Callback):
    """The learning rate that each epoch trains at; training may be stopped after one of them."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.rates: list[float] = []
        self.stop_after = stop_after

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = trainer.current_epoch == self.stop_after


def scheduled(name: str, epochs: int) -> Classifier:
    target = "raylight.training.schedules" if name == "WarmupCosine" else "torch.optim.lr_scheduler"
    lengths = {"CosineAnnealingLR": {"T_max": epochs}, "WarmupCosine": {"warmup_epochs": 2, "epochs": epochs}}
    learner = classifier(phases=(Phase(0, epochs, 0, 0, None, 1.0),))
    node = {"_target_": f"{target}.{name}", **lengths.get(name, {"step_size": 1, "gamma": 0.5})}
    learner.optimization = Optimization(SGD, node, per_phase=False)
    return learner


def half_cosine(share: float) -> float:
    return 0.05 * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize(
    ("name", "rates", "equal"),
    [  # the first three epochs of a warm-up of two are the same, however many follow
        ("StepLR", [0.05, 0.025, 0.0125, 0.00625, 0.003125], True),
        ("CosineAnnealingLR", [half_cosine(epoch / 5) for epoch in range(5)], False),
        ("WarmupCosine", [0.05 / 3, 0.1 / 3, 0.05, half_cosine(1 / 3), half_cosine(2 / 3)], True),
    ],
)
def test_more_epochs_have_the_rates_of_a_training_that_had_them_from_the_start(
    name: str, rates: list[float], equal: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    whole, stopped, shorter, more = tmp_path / "whole", tmp_path / "stopped", tmp_path / "shorter", Rates()
    trained(whole, scheduled(name, 5), seen := Rates())
    assert seen.rates == pytest.approx(rates)
    assert [row["learning_rate"] for row in history(whole)] == pytest.approx(rates, abs=1e-6)
    trained(stopped, scheduled(name, 5), Rates(stop_after=2))
    assert checkpoint(stopped, "last.ckpt")["epoch"] == 2
    trained(stopped, scheduled(name, 5), resume_from=stopped / "run/checkpoints/last.ckpt")
    assert same_weights(stopped, whole)
    assert "Not the same" not in caplog.text
    trained(shorter, scheduled(name, 3), max_epochs=3)
    trained(shorter, scheduled(name, 5), more, resume_from=shorter / "run/checkpoints/last.ckpt")
    assert more.rates == pytest.approx(rates[3:])
    assert same_weights(shorter, whole) == equal
    assert ("Not the same as a run of 5 epochs from the start" in caplog.text) != equal


def same_weights(folder: Path, other: Path) -> bool:
    states = [checkpoint(place, "last.ckpt")["state_dict"] for place in (folder, other)]
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())
