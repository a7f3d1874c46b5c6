"""What each of several training processes does: unpack the training, train its share, send its log to the driver.

How the processes are started and how they find each other is left to ``local`` and ``ray_worker``.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from raylight.errors import RaylightError
from raylight.process import environment, flushed_denormals, torch_threads
from raylight.runs.run_dir import RunDir
from raylight.training.messages import FinishedTraining, LogLine, Message, Metrics, Send
from raylight.training.trainer import Placement, Training, fit


def train_share(
    pickled: bytes, placement: Placement, run: RunDir, resume_from: Path | None, threads: int, send: Send
) -> FinishedTraining:
    """Train as one of several processes, whose process group exists already.

    Args:
        pickled: the ``Training``.
        placement: where this process computes.
        run: where this process writes.
        resume_from: a checkpoint to resume from, the same in each process.
        threads: of torch's operators in this process.
        send: to the driver; only the first process sends its log and metrics.

    Returns:
        The best checkpoint, and how long training took.

    Raises:
        RaylightError: training can't continue, for a reason that is the same in all processes.
    """
    first = torch.distributed.get_rank() == 0
    training = _unpickled(pickled)
    training = replace(training, settings=replace(training.settings, threads=threads))
    logger = _DriversLogger(send) if training.tracked else False
    # Without OMP_NUM_THREADS Lightning divides the cores by a rule of its own.
    variables = {**training.environment, "OMP_NUM_THREADS": str(threads)}
    with environment(**variables), torch_threads(threads), flushed_denormals(), _log_sent(send if first else _discard):
        return fit(training, run, logger, resume_from, placement)


def _unpickled(pickled: bytes) -> Training:
    """Unpickle the training; if one process can't see the images, all of them stop."""
    training, problem = None, None
    try:
        training = ForkingPickler.loads(pickled)  # sent by this run's own driver, not read from a file
    except RaylightError as error:
        problem = error
    problems: list[RaylightError | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(problems, problem)
    for found in problems:
        if found is not None:
            raise found
    assert isinstance(training, Training)
    return training


class _DriversLogger(Logger):
    """Lightning's logger in a training process; the driver has the real one."""

    def __init__(self, send: Send) -> None:
        super().__init__()
        self.send = send

    @property
    def name(self) -> str:
        return "driver"

    @property
    def version(self) -> int:
        return 0

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.send(Metrics({name: float(value) for name, value in metrics.items()}, step))

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The driver has logged the config."""


class _SentLog(logging.Handler):
    def __init__(self, send: Send) -> None:
        super().__init__()
        self.send = send

    def emit(self, record: logging.LogRecord) -> None:
        self.send(LogLine(record.name, record.levelno, record.getMessage()))


@contextlib.contextmanager
def _log_sent(send: Send) -> Iterator[None]:
    """Redirect this process's log to the driver."""
    ours, handler = logging.getLogger("raylight"), _SentLog(send)
    before = ours.level, ours.propagate, ours.handlers[:]
    ours.handlers[:], ours.propagate = [handler], False
    ours.setLevel(logging.INFO)
    try:
        yield
    finally:
        ours.handlers[:], ours.propagate = before[2], before[1]
        ours.setLevel(before[0])


def _discard(message: Message) -> None:
    """Drop a message that the first process sends, too."""
