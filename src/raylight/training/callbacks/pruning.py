"""Pruning: stops a trial of a hyperparameter search that is worse than the others were at the same epoch.

The sweeper passes the trial's address in the environment of its job; each epoch's monitored value is reported to the study,
and the median of the earlier trials decides (Optuna's ``MedianPruner``). A pruned job ends like a job with early stopping: with
its best checkpoint and its result. Leaves out the search itself (``hydra_plugins.raylight_optuna_sweeper``).
"""

import json
import logging
import os
from typing import Any

import pytorch_lightning as pl

TRIAL_VARIABLE = "RAYLIGHT_OPTUNA_TRIAL"
"""JSON: ``storage`` (URL), ``study`` (name), ``number`` (of the trial), ``startup`` (trials that are never pruned, nor
anything before they have ended), ``warmup`` (epochs that are never pruned)."""

log = logging.getLogger(__name__)


class Pruning(pl.Callback):
    """Reports the monitored metric of each epoch to a trial, and stops training where its pruner says so.

    Of several training processes the first one asks, and all stop.

    Args:
        trial: of Optuna.
        monitor: name of the metric.
    """

    def __init__(self, trial: Any, monitor: str) -> None:
        self.trial, self.monitor = trial, monitor

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Report the epoch, which Lightning has validated by now."""
        if self.monitor not in trainer.callback_metrics:
            return
        if trainer.strategy.broadcast(trainer.is_global_zero and self._is_worse(trainer)):
            trainer.should_stop = True

    def _is_worse(self, trainer: pl.Trainer) -> bool:
        self.trial.report(float(trainer.callback_metrics[self.monitor]), trainer.current_epoch)
        if not self.trial.should_prune():
            return False
        self.trial.set_user_attr("pruned_at", trainer.current_epoch)
        log.info("Pruned after epoch %d: other trials were better by then.", trainer.current_epoch + 1)
        return True


def pruning_callbacks(monitor: str) -> list[pl.Callback]:
    """The pruning callback of a job that is a trial of a search.

    Args:
        monitor: the metric that the search optimises.

    Returns:
        One callback; none where the job isn't a trial.
    """
    address = os.environ.get(TRIAL_VARIABLE)
    if not address:
        return []
    import optuna

    where = json.loads(address)
    study = optuna.load_study(study_name=where["study"], storage=where["storage"], pruner=_pruner(where))
    frozen = next(trial for trial in study.get_trials(deepcopy=False) if trial.number == where["number"])
    return [Pruning(optuna.trial.Trial(study, frozen._trial_id), monitor)]


def _pruner(where: dict[str, Any]) -> Any:
    import optuna

    return optuna.pruners.MedianPruner(n_startup_trials=where["startup"], n_warmup_steps=where["warmup"])
