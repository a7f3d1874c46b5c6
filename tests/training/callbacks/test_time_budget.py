"""Training stops in time, by a clock that goes ten seconds a step."""

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytorch_lightning as pl

from raylight.training.callbacks import time_budget
from tests.training.tiny import checkpoint, classifier, history, trained


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
    assert kept == {"seconds": 90.0}
    finished = trained(tmp_path, classifier(), clock, max_minutes=2.1, resume_from=last)
    assert (finished.epochs, finished.stopped_by) == (4, "trainer.max_minutes")
