"""Lightning's Trainer for a run: callbacks, precision, progress, history.

The same for a process that trains alone and for each of several. Leaves out how several are started and watched
(``training.distributed``), and what is measured on the test set.
"""

import csv
import io
import logging
import os
import pickle
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.callbacks import (
    Callback,
    Checkpoint,
    EarlyStopping,
    LearningRateMonitor,
    RichProgressBar,
)

from raylight.config.rules.metric_names import better
from raylight.config.schema import TrainerConfig
from raylight.cpu.settings import CpuSettings
from raylight.errors import ConfigError, RunError, first_line
from raylight.runs.console import shows_bars
from raylight.runs.run_dir import RunDir
from raylight.training.callbacks.averaging import AveragedWeights
from raylight.training.callbacks.checkpoints import LAST, AtomicCheckpointIO, MovableCheckpoint
from raylight.training.callbacks.own import build_callbacks
from raylight.training.callbacks.pruning import TRIAL_VARIABLE, pruning_callbacks
from raylight.training.callbacks.time_budget import SETTING, TimeBudget
from raylight.training.loaders import EpochLoaders
from raylight.training.messages import FinishedTraining
from raylight.training.module import Classifier

log = logging.getLogger(__name__)

HISTORY_FILE = "history.csv"

_PRECISIONS = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


@dataclass(frozen=True)
class Placement:
    """Where a training process computes, as arguments of Lightning's Trainer; the defaults are this process alone.

    Attributes:
        accelerator: ``cpu`` or ``gpu``.
        devices: training processes on this machine, one per GPU.
        strategy: how processes exchange gradients.
        plugins: the environment that tells a process its rank.
        callbacks: that this placement needs, such as Ray's reports.
    """

    accelerator: str = "cpu"
    devices: int | str = 1
    strategy: Any = "auto"
    plugins: tuple[Any, ...] = ()
    callbacks: tuple[Callback, ...] = ()


@dataclass(frozen=True)
class Training:
    """What to train, on which batches, and how: all that a training process needs.

    Attributes:
        classifier: what to train.
        loaders: its batches.
        config: epochs, processes and so on.
        settings: how the processor is used; its threads are those of this machine, divided among the processes.
        tracked: whether the driver logs metrics anywhere.
        callbacks: ``_target_`` nodes of callbacks beside the run's own.
        environment: variables of the driver that training depends on.
    """

    classifier: Classifier
    loaders: EpochLoaders
    config: TrainerConfig
    settings: CpuSettings
    tracked: bool = False
    callbacks: Sequence[Any] = ()
    environment: Mapping[str, str] = field(
        default_factory=lambda: {name: os.environ[name] for name in (TRIAL_VARIABLE,) if name in os.environ}
    )

    def pickled(self) -> bytes:
        """Pickles the training, memory-mapped images as the names of their files.

        Plain pickle: torch's own pickling between processes would make them all change one copy of the weights.

        Returns:
            For ``train_share`` in another process.
        """
        return pickle.dumps(self)


class History(Checkpoint):
    """Writes ``history.csv``, a row per epoch, and a line per epoch to the log.

    Its base class is ``Checkpoint`` because those callbacks run last, when the module has logged the whole epoch.

    It keeps, too, whether training has ended, so that a run that is resumed after its end isn't trained further.

    Args:
        run: gets the file.
        lines: whether the line is shown on the terminal.
        limits: the settings that end a training; with others, it continues.
    """

    def __init__(self, run: RunDir, lines: bool, limits: Sequence[float | None] = ()) -> None:
        self.run, self.lines, self.limits = run, lines, list(limits)
        self.rows: list[dict[str, Any]] = []
        self.ended_by: list[float | None] | None = None
        self.begin = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Train no epoch where training had ended."""
        if self.ended_by == self.limits:
            trainer.should_stop = True

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock."""
        self.begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row, after Lightning has validated it."""
        assert isinstance(pl_module, Classifier)
        self.ended_by = self.limits if trainer.should_stop else None
        logged = sorted(trainer.callback_metrics.items())
        values = {name: round(float(value), 6) for name, value in logged if not name.startswith("lr-")}
        row = {
            "epoch": trainer.current_epoch,
            "phase": pl_module.phases.index(pl_module.phase),
            "seconds": round(time.perf_counter() - self.begin, 3),
            **values,
        }
        self.rows = [kept for kept in self.rows if kept["epoch"] < row["epoch"]] + [row]
        if not trainer.is_global_zero:
            return
        names = list(dict.fromkeys(name for kept in self.rows for name in kept))
        text = io.StringIO()
        writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        self.run.write_text(HISTORY_FILE, text.getvalue())
        log.log(logging.INFO if self.lines else logging.DEBUG, "%s", _line(row, trainer.max_epochs))

    def state_dict(self) -> dict[str, Any]:
        """The rows, and the limits that ended the training, kept in each checkpoint so that a resumed run is complete."""
        return {"rows": [dict(row) for row in self.rows], "ended_by": self.ended_by}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the rows of the epochs before the checkpoint, and whether it was the last one.

        Args:
            state_dict: as saved.
        """
        self.rows = [dict(row) for row in state_dict["rows"]]
        self.ended_by = state_dict.get("ended_by")


def fit(
    training: Training, run: RunDir, logger: Any, resume_from: Path | None = None, placement: Placement | None = None
) -> FinishedTraining:
    """Train a classifier to the end of its phases, alone or as one of several processes, the first of which writes.

    Args:
        training: its classifier holds the last epoch's weights afterwards.
        run: gets ``history.csv`` and ``checkpoints/``.
        logger: Lightning's logger, or False.
        resume_from: a checkpoint to resume from.
        placement: where this process computes, and with which others; None: alone, on this machine's processor.

    Returns:
        The best checkpoint, and how long training took.

    Raises:
        ConfigError: a callback or logger doesn't fit the other settings.
        RunError: the loss became NaN or infinite, or the monitored metric never had a value.
    """
    config, loaders, placement = training.config, training.loaders, placement or Placement()
    held_out = len(loaders.val_images) > 0
    monitor = config.monitor if held_out else "train/loss"
    mode = better(monitor, config.monitor_mode) if held_out else "min"
    if not held_out:
        log.warning("There are no validation images: the checkpoint is chosen by train/loss, which is optimistic.")
    bars = shows_bars(config.progress)
    limits = (config.max_epochs, config.patience, config.max_minutes)
    history = History(run, not bars and config.progress != "off", limits)
    best = MovableCheckpoint(
        dirpath=run.folder("checkpoints"),
        filename="best",
        monitor=monitor,
        mode=mode,
        auto_insert_metric_name=False,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    # Its own callback: save_last of the one above writes only where a new best was saved.
    last = MovableCheckpoint(
        dirpath=run.folder("checkpoints"),
        filename=Path(LAST).stem,
        enable_version_counter=False,
        save_on_train_epoch_end=True,
    )
    callbacks: list[Callback] = [
        *pruning_callbacks(monitor),
        history,
        best,
        last,
        *placement.callbacks,
        *build_callbacks(training.callbacks),
    ]
    if config.averaging != "none":
        callbacks.append(AveragedWeights(config.averaging, config.averaging_start, config.ema_decay))
    early = None
    if config.patience is not None:
        early = EarlyStopping(monitor, patience=config.patience, mode=mode, check_finite=False)
        callbacks.append(early)
    budget = TimeBudget(config.max_minutes) if config.max_minutes is not None else None
    if budget:
        callbacks.append(budget)
    if logger:
        callbacks.append(LearningRateMonitor("epoch"))
    if bars:
        callbacks.append(RichProgressBar())
    _quieten()
    trainer = pl.Trainer(
        accelerator=placement.accelerator,
        devices=placement.devices,
        strategy=placement.strategy,
        precision=_PRECISIONS[training.settings.precision],  # type: ignore[arg-type]  # one of Lightning's literals
        max_epochs=config.max_epochs,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(run), *placement.plugins],
        logger=logger,
        default_root_dir=str(run.path),
        num_sanity_val_steps=0,
        gradient_clip_val=config.gradient_clip,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,  # the loaders give each process its share
        enable_model_summary=False,
        enable_progress_bar=bars,
        log_every_n_steps=1,
    )
    begin = time.perf_counter()
    try:
        trainer.fit(
            training.classifier, datamodule=loaders, ckpt_path=resume_from, weights_only=True if resume_from else None
        )
    except MisconfigurationException as error:  # such as a callback that needs a logger
        raise ConfigError([f"callbacks, logger or trainer: Lightning says: {first_line(error)}"]) from error
    seconds = time.perf_counter() - begin
    if best.best_model_score is None or not best.best_model_path or not bool(best.best_model_score.isfinite()):
        raise RunError(
            f"{monitor} had no value in any epoch, so no checkpoint can be chosen by it; use trainer.monitor=val/loss."
        )
    first = trainer.is_global_zero
    best_epoch = int(torch.load(best.best_model_path, weights_only=True)["epoch"]) if first else 0
    stopped_by = SETTING if budget and budget.stopped else None
    if early and early.stopped_epoch and stopped_by is None and trainer.current_epoch < (config.max_epochs or 0):
        stopped_by = "trainer.patience"
        log.info(
            "trainer.patience=%s: training stopped after epoch %d of %d, since %s had not improved since epoch %d.",
            *(config.patience, trainer.current_epoch, config.max_epochs, monitor, best_epoch + 1),
        )
    if first and config.averaging != "none" and best_epoch < config.averaging_start:
        log.warning("The best epoch by %s is before trainer.averaging_start: its weights aren't averaged.", monitor)
    return FinishedTraining(
        best_checkpoint=Path(best.best_model_path),
        best_epoch=trainer.strategy.broadcast(best_epoch),
        monitor=monitor,
        monitor_value=float(best.best_model_score),
        epochs=trainer.current_epoch,
        seconds=seconds,
        waiting_share=min(1.0, loaders.clock.waited / seconds) if seconds else 0.0,
        stopped_by=stopped_by,
    )


def _quieten() -> None:
    """Silence Lightning's messages that a user can't act on."""
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
        logging.getLogger(f"{name}.utilities.rank_zero").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*isinstance.treespec, LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*module\\(s\\) in eval mode at the start of training.*")
    warnings.filterwarnings("ignore", message=".*recommended to use `self.log.*sync_dist=True.*")
    warnings.filterwarnings("ignore", message="Checkpoint directory .* exists and is not empty.*")


def _line(row: dict[str, Any], max_epochs: int | None) -> str:
    shown = " ".join(
        f"{name} {row[name]:.3f}"
        for name in ("train/loss", "val/loss", "train/accuracy", "val/accuracy", "val/auroc")
        if name in row
    )
    of = str(max_epochs)
    return f"epoch {row['epoch'] + 1:>{len(of)}}/{of}  {shown}  ({row['seconds']:.1f} s)"
