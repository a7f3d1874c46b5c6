"""The loss equals its formulas, and a training whose loss isn't a number stops."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torchvision.ops import sigmoid_focal_loss

import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.config.schema import LossConfig
from raylight.errors import RunError
from raylight.training.module import classification_loss, loss_weight
from tests.training.tiny import checkpoint, classifier, history, trained


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_of_two_classes_is_torchvisions(gamma: float) -> None:
    torch.manual_seed(0)
    score, targets = torch.randn(50) * 3, torch.randint(0, 2, (50,))
    found = classification_loss(torch.stack([torch.zeros(50), score], 1), targets, LossConfig(focal_gamma=gamma), None)
    expected = sigmoid_focal_loss(score, targets.float(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(found, expected)


def test_the_focal_loss_of_three_classes_is_equation_5() -> None:
    """One image of probabilities 0.7, 0.2, 0.1: (1 - p)^2 times -log p."""
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    for target, p in enumerate((0.7, 0.2, 0.1)):
        found = classification_loss(logits, torch.tensor([target]), LossConfig(focal_gamma=2.0), None)
        assert float(found) == pytest.approx(-((1 - p) ** 2) * math.log(p), rel=1e-5)


def test_label_smoothing_shares_a_part_of_the_target_among_all_classes() -> None:
    """0.3 of the target over three classes: 0.8, 0.1, 0.1 (Szegedy et al. 2016, section 7)."""
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    found = classification_loss(logits, torch.tensor([0]), LossConfig(label_smoothing=0.3), None)
    expected = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    assert float(found) == pytest.approx(expected, rel=1e-5)


class Diverges(pl.Callback):
    """Spoils the weights in the third epoch."""

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        if trainer.current_epoch == 2:
            for parameter in pl_module.parameters():
                parameter.data.fill_(float("nan"))


def test_a_loss_that_is_no_number_ends_training_whatever_is_monitored(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no usable val/loss \(nan in epoch 3 of 5\)\. A smaller learning rate"):
        trained(tmp_path, classifier(), Diverges(), monitor="val/accuracy", monitor_mode="max")
    assert len(history(tmp_path)) == 2
    last = checkpoint(tmp_path, "last.ckpt")
    assert last["epoch"] == 1
    assert all(bool(value.isfinite().all()) for value in last["state_dict"].values())


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
