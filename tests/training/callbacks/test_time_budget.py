"""Training stops in time, by a clock that goes ten seconds a step."""

import logging
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl

from raylight.training.callbacks import time_budget
from raylight.training.optimization import Optimization
from raylight.training.phases import Phase
from tests.training.tiny import SGD, checkpoint, classifier, history, trained


class Clock(pl.Callback):
    """Goes only when a step is taken; three steps are an epoch."""

    def __init__(self) -> None:
        self.now = 1000.0

    def perf_counter(self) -> float:
        return self.now

    def on_train_batch_start(self, *_: Any) -> None:
        self.now += 10


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time_budget, "time", SimpleNamespace(perf_counter=clock.perf_counter))
    return clock


@pytest.mark.parametrize(
    ("minutes", "epochs", "told"),
    [
        (1.6, 3, "trainer.max_minutes=1.6: training stops after epoch 3 of 5, after 1.5 minutes; the best epoch"),
        (0.75, 2, "trainer.max_minutes=0.75: training stops in epoch 2 of 5, after 0.833 minutes; the best epoch"),
        (0.1, 1, "trainer.max_minutes=0.1: training stops in epoch 1 of 5, after 0.167 minutes; the best epoch"),
        (2.5, 5, None),
    ],
)
def test_it_stops_before_an_epoch_that_would_not_fit_in_or_within_one(
    minutes: float, epochs: int, told: str | None, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages: list[str] = []
    log = logging.getLogger("raylight.training.callbacks.time_budget")
    monkeypatch.setattr(log, "filters", [lambda record: messages.append(record.getMessage()) or True])
    log.setLevel(logging.INFO)
    finished = trained(tmp_path, classifier(), clock, max_minutes=minutes)
    rows = history(tmp_path)
    assert len(rows) == finished.epochs == epochs
    assert finished.stopped_by == ("trainer.max_minutes" if told else None)
    assert finished.monitor_value == pytest.approx(min(row["val/loss"] for row in rows), abs=1e-5)
    assert [message.startswith(told or "") for message in messages] == ([True] if told else [])


def test_a_resumed_run_goes_on_with_what_is_left(clock: Clock, tmp_path: Path) -> None:
    trained(tmp_path, classifier(), clock, max_epochs=3, max_minutes=10)
    last = tmp_path / "run/checkpoints/last.ckpt"
    (kept,) = [state for name, state in checkpoint(tmp_path, "last.ckpt")["callbacks"].items() if "TimeBudget" in name]
    assert kept == {"seconds": 90.0, "pace": 30.0, "stopped": False}
    for _ in range(2):  # the second time, training had ended
        finished = trained(tmp_path, classifier(), clock, max_minutes=2.1, resume_from=last)
        assert (finished.epochs, finished.stopped_by) == (4, "trainer.max_minutes")
    finished = trained(tmp_path, classifier(), clock, max_minutes=3, resume_from=last)
    assert (finished.epochs, finished.stopped_by) == (5, None)


def cosine(length: int, per_phase: bool = False) -> Optimization:
    return Optimization(
        SGD, {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": length}, per_phase=per_phase
    )


def half_cosine(epoch: int, epochs: int) -> float:
    return 0.05 * (1 + math.cos(math.pi * epoch / epochs)) / 2


@pytest.mark.parametrize(("length", "ends"), [(5, 3), (7, 7)])
def test_the_learning_rates_come_down_within_the_budget(
    length: int, ends: int, clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of five planned epochs of 30 seconds three fit in; a schedule of seven epochs isn't the training's own."""
    caplog.set_level("INFO")
    learner = classifier()
    learner.optimization = cosine(length)
    trained(tmp_path, learner, clock, max_minutes=1.6)
    rates = [row["learning_rate"] for row in history(tmp_path)]
    assert rates == pytest.approx([half_cosine(epoch, ends) for epoch in range(3)], abs=1e-6)
    told = "trainer.max_minutes=1.6: about 3 of 5 epochs fit in; the learning rates follow a schedule of that length."
    assert (told in caplog.messages) == (ends == 3)


def test_a_phase_is_shortened_by_its_own_epochs(clock: Clock, tmp_path: Path) -> None:
    """Of a phase of two epochs and one of four, five epochs fit in: the second phase ends after three."""
    learner = classifier(phases=(Phase(0, 2, 0, 0, None, 1.0), Phase(2, 4, 0, 0, None, 1.0)))
    learner.optimization = cosine(6, per_phase=True)
    trained(tmp_path, learner, clock, max_epochs=6, max_minutes=2.6)
    rates = [row["learning_rate"] for row in history(tmp_path)]
    expected = [(0, 2), (1, 2), (0, 4), (1, 3), (2, 3)]
    assert rates == pytest.approx([half_cosine(*part) for part in expected], abs=1e-6)


def test_a_resumed_run_follows_the_same_schedule(
    clock: Clock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    rates = []
    for folder, sessions in ((whole, [5]), (stopped, [2, 5])):
        for planned in sessions:
            learner = classifier(phases=(Phase(0, 5, 0, 0, None, 1.0),))
            learner.optimization = cosine(5)
            last = folder / "run/checkpoints/last.ckpt"
            resume = last if last.exists() else None
            trained(folder, learner, clock, max_epochs=planned, max_minutes=2.1, resume_from=resume)
        rates.append([row["learning_rate"] for row in history(folder)])
    assert rates[0] == pytest.approx([half_cosine(epoch, 4) for epoch in range(4)], abs=1e-6)
    assert rates[1] == rates[0]
    assert "Not the same as a run of 5 epochs" not in caplog.text
