"""Messages from training processes to the driver, and the result of training: plain values; imports nothing heavy."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class FinishedTraining:
    """Proof that training ended; without one there are no test images to be had.

    Attributes:
        best_checkpoint: the checkpoint that validation chose.
        best_epoch: its epoch, counted from 0.
        monitor: the metric that chose it.
        monitor_value: its value there.
        epochs: epochs trained, over all sessions of the run.
        seconds: wall time of this training.
        waiting_share: share of the training time spent waiting for batches, 0 to 1.
        stopped_by: the setting that ended training before its last epoch, ``trainer.max_minutes`` or ``trainer.patience``.
    """

    best_checkpoint: Path
    best_epoch: int
    monitor: str
    monitor_value: float
    epochs: int
    seconds: float
    waiting_share: float
    stopped_by: str | None = None


@dataclass(frozen=True)
class LogLine:
    """A record for the driver's log."""

    logger: str
    level: int
    text: str


@dataclass(frozen=True)
class Metrics:
    """Values for the driver's tracker."""

    values: dict[str, float]
    step: int | None


@dataclass(frozen=True)
class File:
    """A whole file for the run folder."""

    name: str
    content: bytes


@dataclass(frozen=True)
class Ended:
    """How training ended in a process: with an error, or well; only the first process sends the result."""

    finished: FinishedTraining | None = None
    error: Exception | None = None


Message = LogLine | Metrics | File | Ended
Send = Callable[[Message], None]
