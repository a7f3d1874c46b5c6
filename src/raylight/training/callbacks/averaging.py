"""Averages of the weights along training: validation, checkpoints and the deployed model all use the average.

Lightning's ``EMAWeightAveraging`` starts at the first step whatever epoch is configured, and adds an update between an epoch's
validation and its checkpoint; its ``StochasticWeightAveraging`` doesn't validate the average. Both are replaced here.
"""

from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import WeightAveraging
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import get_ema_multi_avg_fn

from raylight.training.module import Classifier
from raylight.training.phases import phase_at


class AveragedWeights(WeightAveraging):
    """Keeps an average of the weights beside those that train, and swaps it in to validate and to save.

    ``ema``: exponential moving average (Polyak and Juditsky 1992), updated at each step, BatchNorm's statistics like the
    weights. ``swa``: mean of the weights at the ends of epochs (Izmailov et al. 2018, at the rates of the run's schedule);
    BatchNorm's statistics are computed for it by one more pass over the epoch's training batches, as in the paper and in
    ``torch.optim.swa_utils.update_bn``, but without dropout, as in inference.

    Epochs before the first averaged one are validated and saved as they are. A new phase begins a new average: layers that
    are frozen in it, and cached, must be the same in both.

    Args:
        kind: ``ema`` or ``swa``.
        first_epoch: the first epoch that counts, from 0.
        decay: weight of the old average in the next one, 0 to 1, for ``ema``.
    """

    def __init__(self, kind: str, first_epoch: int, decay: float) -> None:
        self.each_step, self.first_epoch = kind == "ema", first_epoch
        how = {"multi_avg_fn": get_ema_multi_avg_fn(decay)} if self.each_step else {}  # type: ignore[no-untyped-call]
        super().__init__(use_buffers=self.each_step, **how)

    @property
    def _has_average(self) -> bool:
        return self._average_model is not None and bool(self._average_model.n_averaged > 0)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Forget the average of the previous phase."""
        assert isinstance(pl_module, Classifier)
        assert self._average_model is not None
        if phase_at(pl_module.phases, trainer.current_epoch).first_epoch == trainer.current_epoch:
            self._average_model.n_averaged.zero_()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Update the average, before the epoch is validated."""
        if trainer.current_epoch < self.first_epoch or not (self.each_step or trainer.is_last_batch):
            return
        assert self._average_model is not None
        self._average_model.update_parameters(pl_module)
        if not self.each_step:
            self._compute_statistics(trainer, pl_module)

    def _compute_statistics(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        norms = [module for module in pl_module.modules() if isinstance(module, _BatchNorm) and module.training]
        if not norms:
            return
        self._swap_models(pl_module)
        pl_module.eval()
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over batches
            norm.train()
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            for batch in trainer.train_dataloader or ():
                if len(batch.targets):
                    pl_module(trainer.strategy.batch_to_device(batch).inputs)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        pl_module.train()
        self._swap_models(pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Do nothing, unlike the base class: the epoch has been validated, and this average is what is saved."""

    def on_validation_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swap the average in."""
        if self._has_average:
            self._swap_models(pl_module)

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Swap the weights back."""
        if self._has_average:
            self._swap_models(pl_module)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Leave the average in the module."""
        if self._has_average:
            self._copy_average_to_current(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Save the average as the model, and the weights beside it."""
        if self._has_average:
            super().on_save_checkpoint(trainer, pl_module, checkpoint)

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Restore weights and average; a checkpoint from before the first averaged epoch has no average."""
        if "averaging_state" in checkpoint:
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
