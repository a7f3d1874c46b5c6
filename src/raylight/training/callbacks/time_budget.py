"""A time budget of training (``trainer.max_minutes``): it stops in time, with the best epoch kept."""

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

    After each epoch, if another one like it wouldn't fit in; within an epoch where it takes longer than that, so that it is
    validated as far as it came. Of several training processes the first one's clock counts, and all stop.

    Args:
        minutes: from the first step's preparation on, without decoding, testing and reporting.

    Attributes:
        stopped: whether it has ended the training.
    """

    def __init__(self, minutes: float) -> None:
        self.minutes, self.stopped = minutes, False
        self._before, self._begin, self._epoch_begin = 0.0, 0.0, 0.0

    @property
    def spent(self) -> float:
        """Seconds, those of earlier sessions with them."""
        return self._before + time.perf_counter() - self._begin

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._begin = self._epoch_begin = time.perf_counter()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the epoch's."""
        self._epoch_begin = time.perf_counter()

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Stop within an epoch."""
        self._stop_if(trainer, self.spent > 60 * self.minutes, "in")

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop where an epoch like this one wouldn't fit in; the first of a phase computes features, and says little."""
        assert isinstance(pl_module, Classifier)
        epoch, phases = trainer.current_epoch, pl_module.phases
        alike = phase_at(phases, epoch + 1) is pl_module.phase and epoch > pl_module.phase.first_epoch
        another = time.perf_counter() - self._epoch_begin if alike else 0.0
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
        """What was spent, kept in each checkpoint."""
        return {"seconds": self.spent}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from what earlier sessions spent."""
        self._before = float(state_dict["seconds"])
