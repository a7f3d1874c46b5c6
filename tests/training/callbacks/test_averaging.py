"""Averaged weights are the average of what the steps gave, and what validation judged is what the checkpoints hold."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from sklearn.metrics import log_loss
from torch import Tensor
from torch.optim.swa_utils import update_bn

from raylight.config.schema import ModelConfig
from raylight.data.batches import Batches, Batching, Order
from raylight.training.phases import Phase
from tests.training.tiny import PHASES, TRAIN, VAL, checkpoint, classifier, history, trained

NORMED = ModelConfig(channels=[4], dense=[4], image_size=16, batch_norm=True)
START, DECAY = 2, 0.7
TWO_PHASES = (Phase(0, 3, 0, 0, None, 1.0), Phase(3, 2, 0, 0, None, 1.0))


class Recorder(pl.Callback):
    """The weights after each step, by epoch."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, dict[str, Tensor]]] = []

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule, *_: Any) -> None:
        weights = {name: parameter.detach().double() for name, parameter in pl_module.named_parameters()}
        self.steps.append((trainer.current_epoch, {name: value.clone() for name, value in weights.items()}))


def averaged(kind: str, steps: list[tuple[int, dict[str, Tensor]]], start: int) -> dict[str, Tensor]:
    """By the definitions, from the weights after each step."""
    counted = [weights for epoch, weights in steps if epoch >= start]
    if kind == "swa":  # three steps an epoch
        return {name: torch.stack([weights[name] for weights in counted[2::3]]).mean(0) for name in counted[0]}
    average = counted[0]
    for weights in counted[1:]:
        average = {name: DECAY * average[name] + (1 - DECAY) * weights[name] for name in average}
    return average


@pytest.mark.parametrize(("phases", "first"), [(PHASES, START), (TWO_PHASES, 3)])
@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_the_average_is_that_of_the_steps_and_disturbs_none_of_them(
    kind: str, phases: tuple[Phase, ...], first: int, tmp_path: Path
) -> None:
    recorder = Recorder()
    trained(tmp_path / "plain", classifier(phases=phases), recorder)
    learner = classifier(phases=phases)
    trained(tmp_path / "averaged", learner, averaging=kind, averaging_start=START, ema_decay=DECAY)
    last = checkpoint(tmp_path / "averaged", "last.ckpt")
    for name, expected in averaged(kind, recorder.steps, first).items():
        torch.testing.assert_close(last["state_dict"][name].double(), expected, atol=1e-6, rtol=1e-5)
        torch.testing.assert_close(learner.state_dict()[name], last["state_dict"][name])
        torch.testing.assert_close(last["current_model_state"][name].double(), recorder.steps[-1][1][name])
    plain, with_average = history(tmp_path / "plain"), history(tmp_path / "averaged")
    assert [row["train/loss"] for row in plain] == [row["train/loss"] for row in with_average]
    validated = [[row["val/loss"] for row in rows] for rows in (plain, with_average)]
    assert validated[0][:START] == validated[1][:START]
    assert validated[0][-1] != validated[1][-1]


@pytest.mark.parametrize("kind", ["ema", "swa"])
def test_the_checkpoint_is_what_validation_judged(kind: str, tmp_path: Path) -> None:
    trained(tmp_path, classifier(NORMED), averaging=kind, averaging_start=1, ema_decay=DECAY)
    for name in ("best.ckpt", "last.ckpt"):
        state = checkpoint(tmp_path, name)
        fresh = classifier(NORMED).eval()
        fresh.load_state_dict(state["state_dict"])
        with torch.no_grad():
            probabilities = fresh(torch.from_numpy(VAL.store).permute(0, 3, 1, 2)).double().softmax(1)
        logged = history(tmp_path)[state["epoch"]]
        assert logged["val/loss"] == pytest.approx(log_loss(VAL.targets, probabilities), abs=2e-6)
        assert logged["val/accuracy"] == pytest.approx(
            (probabilities.argmax(1).numpy() == VAL.targets).mean(), abs=1e-6
        )


def test_batch_norm_gets_the_statistics_of_the_averaged_weights(tmp_path: Path) -> None:
    learner = classifier(NORMED)
    trained(tmp_path, learner, averaging="swa", averaging_start=1)
    expected = classifier(NORMED)
    expected.load_state_dict(learner.state_dict())
    update_bn((batch.inputs for batch in Batches(TRAIN, Batching(7), Order(1, 4, shuffle=True))), expected)
    buffers = dict(expected.named_buffers())
    assert any(name.endswith("running_var") for name in buffers)
    for name, value in learner.named_buffers():
        torch.testing.assert_close(value, buffers[name], atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", ["ema", "swa"])
@pytest.mark.parametrize("stopped_after", [1, 3])
def test_an_average_goes_on_after_a_stop(kind: str, stopped_after: int, tmp_path: Path) -> None:
    """Before the average has begun, and within it."""
    settings = {"averaging": kind, "averaging_start": START, "ema_decay": DECAY}
    trained(tmp_path / "whole", classifier(NORMED), **settings)
    trained(tmp_path / "stopped", classifier(NORMED), max_epochs=stopped_after, **settings)
    last = tmp_path / "stopped" / "run" / "checkpoints" / "last.ckpt"
    trained(tmp_path / "stopped", classifier(NORMED), resume_from=last, **settings)
    states = [checkpoint(tmp_path / name, "last.ckpt") for name in ("whole", "stopped")]
    for key in ("state_dict", "current_model_state", "averaging_state"):
        torch.testing.assert_close(states[0][key], states[1][key], atol=0, rtol=0)
