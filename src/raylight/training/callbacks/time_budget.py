"""A time budget of training (``trainer.max_minutes``): training stops in time and keeps the best epoch."""

import logging
import time
from typing import Any

import pytorch_lightning as pl

from raylight.training.module import Classifier
from raylight.training.phases import phase_at

log = logging.getLogger(__name__)

SETTING = "trainer.max_minutes"


class TimeBudget(pl.Callback):
    """Stops training when its time is used up, over all sessions of a run.

    It stops after an epoch if another one like it wouldn't fit in, and within an epoch that exceeds the budget; that part of an
    epoch is still validated. Where a schedule is as long as the training, it is shortened to the epochs that will fit in, as
    each epoch's time tells anew, so that the learning rates come down in time (Li et al. 2020, "Budgeted Training"). Of several
    training processes the first one's clock counts for all.

    Args:
        minutes: budget, counted from the preparation of the first step, without decoding, testing and reporting.

    Attributes:
        stopped: whether it has ended the training.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes, self.stopped = minutes, False
        self._before, self._begin, self._epoch_begin = 0.0, 0.0, 0.0
        self._pace: float | None = None
        self._length: int | None = None

    @property
    def spent(self) -> float:
        """Seconds used so far, in all sessions."""
        return self._before + time.perf_counter() - self._begin

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._begin = self._epoch_begin = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's clock, and fit the phase's schedule to the time that is left."""
        assert isinstance(pl_module, Classifier)
        self._epoch_begin, self.stopped = time.perf_counter(), False
        phase, epoch = pl_module.phase, trainer.current_epoch
        if self._pace is None or phase_at(pl_module.phases, epoch) is not phase:
            self._length = None
            return
        fitting = max(1, int((60 * self.minutes - self.spent) / self._pace))
        length = trainer.strategy.broadcast(min(phase.epochs, epoch - phase.first_epoch + fitting))
        if length != (self._length or phase.epochs):
            self._shorten(trainer, pl_module, length)

    def _shorten(self, trainer: pl.Trainer, module: Classifier, length: int) -> None:
        phase, done = module.phase, trainer.current_epoch - module.phase.first_epoch
        for config in trainer.lr_scheduler_configs:
            schedule = module.optimization.shortened_schedule(trainer.optimizers[0], phase.epochs, length, done)
            if schedule is None:
                continue
            config.scheduler = schedule
            if self._length is None:
                log.info(
                    "%s=%g: about %d of %d epochs fit in; the learning rates follow a schedule of that length.",
                    *(SETTING, self.minutes, phase.first_epoch + length, trainer.max_epochs),
                )
        self._length = length

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop within an epoch that exceeds the budget."""
        self._stop_if(trainer, self.spent > 60 * self.minutes, "in")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop if another epoch like this one wouldn't fit in; a phase's first one computes features and is no guide."""
        assert isinstance(pl_module, Classifier)
        epoch, phase, seconds = trainer.current_epoch, pl_module.phase, time.perf_counter() - self._epoch_begin
        later = epoch > phase.first_epoch
        self._pace = seconds if later or not phase.input_stage else None
        another = seconds if later and phase_at(pl_module.phases, epoch + 1) is phase else 0.0
        if epoch + 1 < (trainer.max_epochs or 0):
            self._stop_if(trainer, self.spent + another > 60 * self.minutes, "after")

    def _stop_if(self, trainer: pl.Trainer, over: bool, where: str) -> None:
        if self.stopped or not trainer.strategy.broadcast(over):
            return
        trainer.should_stop = self.stopped = True
        log.info(
            "%s=%g: training stops %s epoch %d of %s, after %.3g minutes; the best epoch so far is kept.",
            SETTING,
            self.minutes,
            where,
            trainer.current_epoch + 1,
            trainer.max_epochs,
            self.spent / 60,
        )

    def state_dict(self) -> dict[str, Any]:
        """The seconds used, those of the last epoch, and whether the training has ended, kept in each checkpoint."""
        return {"seconds": self.spent, "pace": self._pace, "stopped": self.stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue counting from what earlier sessions used; the next epoch, if there is one, hasn't been stopped.

        Args:
            state_dict: as saved.
        """
        self._before, self._pace = float(state_dict["seconds"]), state_dict.get("pace")
        self.stopped = state_dict.get("stopped", False)
