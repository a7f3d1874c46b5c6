"""``trainer=ddp``: several training processes on this machine, without Ray.

The processes are forked from a server that has imported the libraries and never used them: importing costs its time once,
and none of this process's OpenMP threads is copied in the middle of its work. Whatever happens to one of them, the others
end; the run stays resumable from its last whole epoch.
"""

import logging
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from raylight.errors import RunError
from raylight.machine import keep_freed_memory
from raylight.process import set_variables
from raylight.runs.run_dir import RunDir
from raylight.storage.scratch import scratch_folder
from raylight.training.distributed.driver import Driver
from raylight.training.distributed.worker import take_part
from raylight.training.messages import Ended, FinishedTraining
from raylight.training.trainer import Place, Training

log = logging.getLogger(__name__)

_GRACE = 5.0
"""Seconds in which, after one process failed, another one's death is still taken for the cause."""

_SETTLED = 5.0
"""Seconds in which training processes notice that their driver was killed."""


def fit_in_processes(training: Training, driver: Driver, resume_from: Path | None) -> FinishedTraining:
    """Train in ``num_workers`` processes and wait for them.

    Args:
        training: what to train.
        driver: gets what they send; the first one writes into the run folder itself.
        resume_from: a checkpoint to go on from.

    Raises:
        RunError: a process died.
        Exception: what a process raised.
    """
    count = training.config.num_workers
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload(["raylight.training.distributed.worker"])
    packed, run = training.packed(), driver.run.path.resolve()
    last = None if resume_from is None else resume_from.resolve()
    threads = max(1, training.settings.threads // count)
    log.info("Training in %d processes of %d thread%s each.", count, threads, "s" if threads > 1 else "")
    processes, receivers = [], list[Connection]()
    with scratch_folder("ddp", _SETTLED) as folder:
        try:
            for rank in range(count):
                receiver, sender = context.Pipe(duplex=False)
                task = _Task(rank, count, threads, training.config.accelerator, folder, run, last)
                process = context.Process(target=_work, args=(packed, task, sender), daemon=True)
                process.start()
                sender.close()
                processes.append(process)
                receivers.append(receiver)
            _listen(receivers, driver)
            assert driver.finished is not None
            return driver.finished
        finally:
            for process in processes:
                process.kill()
                process.join()


def _listen(receivers: list[Connection], driver: Driver) -> None:
    """Pass messages to the driver until the first process has finished."""
    ended: dict[Connection, Ended] = {}
    deadline = None
    while driver.finished is None:
        waiting = [receiver for receiver in receivers if receiver not in ended]
        for receiver in wait(waiting, None if deadline is None else max(0.0, deadline - time.monotonic())):
            assert isinstance(receiver, Connection)
            try:
                message = receiver.recv()
            except EOFError:
                raise RunError(
                    f"Training process {receivers.index(receiver)} of {len(receivers)} died (out of memory, or killed). The "
                    "run is whole up to its last epoch: go on with raylight resume RUN, or with fewer processes: "
                    "trainer.num_workers"
                ) from None
            if isinstance(message, Ended):
                ended[receiver] = message
            if not isinstance(message, Ended) or message.error is None:
                driver.receive(message)
        failed = [end.error for end in ended.values() if end.error is not None]
        if failed:
            # A process that loses another one fails, too; the loss itself is the better reason.
            deadline = deadline or time.monotonic() + _GRACE
            if time.monotonic() >= deadline or len(ended) == len(receivers):
                raise failed[0]


@dataclass(frozen=True)
class _Task:
    """What is different in each process.

    Attributes:
        rank: its number, counted from 0.
        count: of all processes.
        threads: of torch's operators.
        accelerator: ``cpu`` or ``gpu``.
        folder: where the processes find each other.
        run: the run folder.
        resume_from: a checkpoint to go on from.
    """

    rank: int
    count: int
    threads: int
    accelerator: str
    folder: Path
    run: Path
    resume_from: Path | None


def _work(packed: bytes, task: _Task, sender: Connection) -> None:
    """Runs in a training process."""
    for signum in (signal.SIGINT, signal.SIGTERM):  # a terminal or a scheduler sends them to all: the driver answers
        signal.signal(signum, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    keep_freed_memory()
    try:
        finished = take_part(packed, _joined(task), RunDir(task.run), task.resume_from, task.threads, sender.send)
        sender.send(Ended(finished if task.rank == 0 else None))
    except Exception as error:
        sender.send(Ended(None, _sendable(error)))


def _joined(task: _Task) -> Place:
    """Meet the other processes, through a file and this machine's own address."""
    set_variables(LOCAL_RANK=str(task.rank), NODE_RANK="0", WORLD_SIZE=str(task.count))
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        set_variables(GLOO_SOCKET_IFNAME=os.environ.get("GLOO_SOCKET_IFNAME", loopback))
    torch.distributed.init_process_group(
        "gloo" if task.accelerator == "cpu" else None,
        init_method=f"file://{task.folder}/meeting",
        rank=task.rank,
        world_size=task.count,
    )
    return Place(task.accelerator, task.count, DDPStrategy(), (LightningEnvironment(),))


def _end_with_driver() -> None:
    """Ends this process if its driver was killed, since nobody would receive the result."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os._exit(1)


def _sendable(error: Exception) -> Exception:
    """The error itself if it can be pickled, else its text."""
    try:
        ForkingPickler.loads(ForkingPickler.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error
