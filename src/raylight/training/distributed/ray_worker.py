"""A training process in a worker of Ray Train.

Checkpoints and everything else for the run folder go to the driver as whole files, through an actor on the driver's node, so
that no storage needs to be shared; that is why Ray's own report callback, which wants one, is replaced by one that reports
metrics alone.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from raylight.errors import RaylightError
from raylight.machine import keep_freed_memory
from raylight.runs.run_dir import RunDir
from raylight.training.callbacks.checkpoints import LAST
from raylight.training.distributed.worker import train_share
from raylight.training.messages import Ended, File, Message, Send
from raylight.training.trainer import Placement


@dataclass(frozen=True)
class _DistantRun(RunDir):
    """A scratch folder in a worker whose files go to the driver's run folder, too."""

    send: Send

    def write_bytes(self, name: str, content: bytes) -> Path:
        path = super().write_bytes(name, content)
        self.send(File(name, content))
        return path

    def write_link(self, existing: str, name: str) -> Path:
        path = super().write_link(existing, name)
        self.send(File(name, path.read_bytes()))
        return path


def work(mailbox: Any, pickled: list[Any], accelerator: str, threads: int) -> None:
    """Runs in a worker of Ray Train.

    Args:
        mailbox: the actor for messages.
        pickled: reference to the training.
        accelerator: ``cpu`` or ``gpu``.
        threads: of torch's operators.
    """
    import ray
    from ray.train.lightning import RayDDPStrategy, RayLightningEnvironment

    keep_freed_memory()
    untyped: Any = RayDDPStrategy, RayLightningEnvironment
    placement = Placement(accelerator, "auto", untyped[0](), (untyped[1](),), (_ReportsToRay(),))

    def send(message: Message) -> None:
        ray.get(mailbox.put.remote(message))

    # Here Ray Train has put this process into a folder of its session, which goes with it even if the process is killed.
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        run = _DistantRun(Path(folder).resolve(), send)
        # The first process asks and tells the others: all must resume from the same epoch.
        checkpoints = [ray.get(mailbox.checkpoints.remote()) if torch.distributed.get_rank() == 0 else {}]
        torch.distributed.broadcast_object_list(checkpoints)
        for name, content in checkpoints[0].items():
            run.folder("checkpoints").joinpath(Path(name).name).write_bytes(content)
        last = run / "checkpoints" / LAST
        try:
            ended = Ended(
                train_share(ray.get(pickled[0]), placement, run, last if last.is_file() else None, threads, send)
            )
        except RaylightError as error:  # it would occur again, so that Ray needn't restart
            ended = Ended(None, error)
    if torch.distributed.get_rank() == 0:
        send(ended)


class _ReportsToRay(pl.Callback):
    """Reports each epoch's metrics to Ray Train, which all workers wait for."""

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report what has been logged."""
        import ray.train

        ray.train.report({name: float(value) for name, value in trainer.callback_metrics.items()})
