"""``trainer=ddp``: several training processes on this machine, without Ray.

The processes are forked from a server that has imported the libraries and never used them: importing costs its time once,
and none of this process's OpenMP threads is copied in the middle of its work. If one of them fails, the others end; the run
stays resumable from its last complete epoch.
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
from raylight.training.distributed.worker import train_share
from raylight.training.messages import Ended, FinishedTraining
from raylight.training.trainer import Placement, Training

log = logging.getLogger(__name__)

_GRACE = 5.0
"""Seconds after a process fails during which the death of another one still counts as the cause."""

_SETTLED = 5.0
"""Seconds within which training processes notice that their driver was killed."""


def fit_in_processes(training: Training, driver: Driver, resume_from: Path | None) -> FinishedTraining:
    """Train in ``num_workers`` processes and wait for them.

    Args:
        training: what to train.
        driver: receives their messages; the first process writes into the run folder itself.
        resume_from: a checkpoint to resume from.

    Returns:
        The best checkpoint, and how long training took.

    Raises:
        RunError: a process died.
        Exception: what a process raised.
    """
    count = training.config.num_workers
    context: Any = multiprocessing.get_context("spawn" if sys.platform == "win32" else "forkserver")
    if sys.platform != "win32":
        context.set_forkserver_preload(["raylight.training.distributed.worker"])
    pickled, run = training.pickled(), driver.run.path.resolve()
    last = None if resume_from is None else resume_from.resolve()
    threads = max(1, training.settings.threads // count)
    log.info("Training in %d processes of %d thread%s each.", count, threads, "s" if threads > 1 else "")
    processes, receivers = [], list[Connection]()
    with scratch_folder("ddp", _SETTLED) as folder:
        try:
            for rank in range(count):
                receiver, sender = context.Pipe(duplex=False)
                worker = _Worker(rank, count, threads, training.config.accelerator, folder, run, last)
                process = context.Process(target=_work, args=(pickled, worker, sender), daemon=True)
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
                    "run is complete up to its last epoch: continue with raylight resume RUN, maybe with fewer processes "
                    "(trainer.num_workers)"
                ) from None
            if isinstance(message, Ended):
                ended[receiver] = message
            if not isinstance(message, Ended) or message.error is None:
                driver.receive(message)
        failed = [end.error for end in ended.values() if end.error is not None]
        if failed:
            # A process that loses another one fails, too; the loss itself explains more.
            deadline = deadline or time.monotonic() + _GRACE
            if time.monotonic() >= deadline or len(ended) == len(receivers):
                raise failed[0]


@dataclass(frozen=True)
class _Worker:
    """The settings of one training process.

    Attributes:
        rank: its number, counted from 0.
        count: of all processes.
        threads: of torch's operators.
        accelerator: ``cpu`` or ``gpu``.
        folder: where the processes find each other.
        run: the run folder.
        resume_from: a checkpoint to resume from.
    """

    rank: int
    count: int
    threads: int
    accelerator: str
    folder: Path
    run: Path
    resume_from: Path | None


def _work(pickled: bytes, worker: _Worker, sender: Connection) -> None:
    """Train in a process of its own."""
    for signum in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a terminal or a scheduler sends them to all processes: the driver handles them
        signal.signal(signum, signal.SIG_IGN)
    threading.Thread(target=_end_with_driver, daemon=True).start()
    keep_freed_memory()
    try:
        finished = train_share(
            pickled, _joined(worker), RunDir(worker.run), worker.resume_from, worker.threads, sender.send
        )
        sender.send(Ended(finished if worker.rank == 0 else None))
    except Exception as error:
        sender.send(Ended(None, _sendable(error)))


def _joined(worker: _Worker) -> Placement:
    """Join the process group, through a file and this machine's own address."""
    set_variables(LOCAL_RANK=str(worker.rank), NODE_RANK="0", WORLD_SIZE=str(worker.count))
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        set_variables(GLOO_SOCKET_IFNAME=os.environ.get("GLOO_SOCKET_IFNAME", loopback))
    torch.distributed.init_process_group(
        "gloo" if worker.accelerator == "cpu" else None,
        init_method=f"file://{worker.folder}/meeting",
        rank=worker.rank,
        world_size=worker.count,
    )
    return Placement(worker.accelerator, worker.count, DDPStrategy(), (LightningEnvironment(),))


def _end_with_driver() -> None:
    """End this process when its driver is killed, since nobody would receive the result."""
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
