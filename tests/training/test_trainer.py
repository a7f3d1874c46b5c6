"""Lightning's Trainer for a run: which epochs the checkpoints hold, and what an epoch's loss is."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as nnf

from raylight.config.schema import FinetuneConfig, ModelConfig
from raylight.models.build import build_network
from raylight.training.phases import plan_phases
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
