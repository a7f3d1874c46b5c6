"""A training whose loss isn't a number stops."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.config.schema import AugmentConfig
from raylight.data.mixing import Mixer
from raylight.errors import RunError
from raylight.training.module import Classifier
from raylight.training.phases import Phase
from tests.training.tiny import MODEL, SGD, VAL, checkpoint, classifier, history, trained


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


def test_each_epoch_draws_its_own_dropout_and_the_same_again(tmp_path: Path) -> None:
    """At a rate of nearly 0 nothing but dropout changes the loss of an epoch."""
    model = dataclasses.replace(MODEL, dropout=0.5)
    losses = []
    for again in range(2):
        trained(tmp_path / str(again), classifier(model, optimizer=SGD | {"lr": 1e-30}), batch_size=20, max_epochs=4)
        losses.append([row["train/loss"] for row in history(tmp_path / str(again))])
    assert losses[0] == losses[1]
    assert len(set(losses[0])) == 4


def test_images_are_normalised_and_features_enter_their_own_stage() -> None:
    learner = classifier(phases=(Phase(0, 1, 2, 1, None, 1.0),)).eval()
    network, images = learner.network, torch.from_numpy(VAL.store).permute(0, 3, 1, 2)
    with torch.no_grad():
        logits = learner(images)
        torch.testing.assert_close(logits, network(images.float() / 255))
        features = network.run(images.float() / 255, 0, 1)
        torch.testing.assert_close(learner(features), logits)
    assert logits.dtype == torch.float32
    # Below the boundary no gradient is computed, above it all.
    learner(images).sum().backward()
    for position in range(len(network.stage_names)):
        for parameter in network.stage(position).parameters():
            assert (parameter.grad is not None) == (position >= 2)


def test_mixed_batches_train_alike_after_a_stop(tmp_path: Path) -> None:
    """Mixed by (seed, epoch, batch): a training that stops goes on like one that didn't; without mixing it is another."""

    def learner() -> Classifier:
        made = classifier()
        made.mixer = Mixer(AugmentConfig(batch=["mixup", "cutmix"]), 2, seed=1)
        return made

    for name in ("whole", "stopped", "plain"):
        (tmp_path / name).mkdir()
    trained(tmp_path / "whole", learner())
    trained(tmp_path / "stopped", learner(), max_epochs=2)
    last = tmp_path / "stopped" / "run" / "checkpoints" / "last.ckpt"
    trained(tmp_path / "stopped", learner(), resume_from=last)
    trained(tmp_path / "plain", classifier())
    losses = {name: [row["val/loss"] for row in history(tmp_path / name)] for name in ("whole", "stopped", "plain")}
    assert losses["whole"] == losses["stopped"]
    assert losses["whole"] != losses["plain"]


def test_seeds_and_epochs_start_torchs_generator_each_at_its_own_place(tmp_path: Path) -> None:
    starts = []
    for seed, epochs in ((1, 1), (1, 2), (2, 1)):
        learner = classifier()
        learner.seed = seed
        trained(tmp_path / f"{seed}-{epochs}", learner, batch_size=20, max_epochs=epochs)
        starts.append(torch.initial_seed())
    assert starts == [1_000_003, 1_000_004, 2_000_006]
