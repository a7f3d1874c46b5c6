"""A training whose loss isn't a number stops."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.errors import RunError
from tests.training.tiny import checkpoint, classifier, history, trained


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
