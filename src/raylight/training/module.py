"""The LightningModule: one network, its loss, its phases and its metrics.

Leaves out where batches come from (``data.batches``), how the machine is used (``training.trainer``), and the test
set, which no training step ever sees.
"""

import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from jaxtyping import Float, Shaped, UInt8
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor
from torch.optim import Optimizer
from torchmetrics.utilities.distributed import gather_all_tensors

from raylight.data.batches import Batch
from raylight.data.mixing import main_class
from raylight.errors import RunError
from raylight.evaluation.definitions.own import OwnMetrics
from raylight.evaluation.definitions.torchmetrics import metric_collection
from raylight.models.build import class_logits
from raylight.models.freezing import freeze
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.training.phases import Phase, TrainingPlan, phase_at
from raylight.training.probe import head_inputs, reset_head, set_head, solve_head

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """The classification task: its classes, and a user's metrics.

    Attributes:
        n_classes: number of classes.
        positive: position of the positive class.
        own_metrics: computed after each epoch, beside Raylight's.
    """

    n_classes: int
    positive: int
    own_metrics: OwnMetrics | None = None


class Classifier(pl.LightningModule):
    """Trains a staged network phase by phase, alone or as one of several processes that share each batch.

    Several processes train like one on the same batches: their losses are weighted by their shares, however uneven, and
    metrics are computed from the outputs of all. What remains different: each process draws dropout of its own, and
    BatchNorm normalises by the mean and standard deviation of the process's own share. Its running statistics are those of the
    first process. (torch synchronises BatchNorm on GPUs alone.)

    Args:
        network: the network; its stages below a phase's boundary are frozen in that phase.
        preprocessing: turns uint8 images into the network's input.
        plan: how it is trained.
        task: its classes and a user's metrics.
        channels_last: memory format of images.
        seed: of everything random in a step (dropout); each epoch starts from (seed, epoch), so that a resumed
            training continues exactly like an uninterrupted one.
    """

    def __init__(
        self,
        network: StagedNetwork,
        preprocessing: Preprocessing,
        plan: TrainingPlan,
        task: Task,
        channels_last: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.network = network
        self.preprocessing = preprocessing
        self.phases, self.optimization, self.loss, self.mixer = plan.phases, plan.optimization, plan.loss, plan.mixer
        self.n_classes, self.own_metrics = task.n_classes, task.own_metrics
        self.seed = seed
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.train_metrics = metric_collection(task.n_classes, task.positive, prefix="train/")
        self.val_metrics = metric_collection(task.n_classes, task.positive, prefix="val/")
        for metric in (*self.train_metrics.values(), *self.val_metrics.values()):
            metric.sync_on_compute = False  # they get the outputs of all processes
        self._outputs: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": []}
        self._losses: dict[str, list[tuple[Tensor, Tensor]]] = {"train": [], "val": []}
        self._rates: dict[int, float] = {}
        self._enter(plan.phases[0])

    def forward(self, inputs: Shaped[Tensor, "batch ..."]) -> Float[Tensor, "batch class"]:
        """Computes the logits of each class.

        Args:
            inputs: uint8[batch, 3, height, width], or inputs of the phase's input stage: features, or normalised images.

        Returns:
            Logits, float32.
        """
        network, phase = self.network, self.phase
        if inputs.dtype == torch.uint8:
            value, start = self._normalised(inputs), 0
        else:
            value, start = inputs, phase.input_stage
        if start < phase.boundary:
            with torch.no_grad():
                value = network.run(value, start, phase.boundary)
            start = phase.boundary
        return class_logits(network.run(value, start, None)).float()

    def _normalised(self, images: UInt8[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        return self.preprocessing.normalise(images).contiguous(memory_format=self.memory_format)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Computes the loss of a training batch.

        Args:
            batch: images or features, and targets; may be empty in one of several processes.
            batch_idx: number of the batch in the epoch.

        Returns:
            The loss, a scalar with a gradient; of several processes, weighted by this one's share of the batch.
        """
        return self._step(self._mixed(batch, batch_idx), "train")

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Keeps the outputs of a validation batch for the epoch's metrics.

        Args:
            batch: images or features, and targets.
            batch_idx: number of the batch in the epoch.
        """
        self._step(batch, "val")

    def _mixed(self, batch: Batch, number: int) -> Batch:
        """A training batch of mixed images, where the config asks for it."""
        if not self.mixer or not len(batch.targets):
            return batch
        images = self._normalised(batch.inputs)
        mixed, shares = self.mixer(images, batch.targets, self.current_epoch, number, self.global_rank)
        return batch._replace(inputs=mixed.contiguous(memory_format=self.memory_format), targets=shares)

    def _step(self, batch: Batch, split: str) -> Tensor:
        weight = self.loss.weight(batch.targets)
        if len(batch.targets):
            loss = self._loss(batch, split)
        else:  # the other processes still wait for this one's gradients
            loss = 0.0 * torch.stack([p.sum() for p in self.parameters() if p.requires_grad]).sum()
        if self.trainer.world_size > 1:
            loss, weight = self._weighted_by_share(loss, weight)
        self._losses[split].append((loss.detach(), weight))
        return loss

    def _loss(self, batch: Batch, split: str) -> Float[Tensor, ""]:
        """The loss of some images, whose outputs are kept for the epoch's metrics."""
        logits = self(batch.inputs)
        self._outputs[split].append((logits.detach(), main_class(batch.targets)))
        value: Tensor = self.loss(logits, batch.targets)
        return value

    def _weighted_by_share(
        self, loss: Float[Tensor, ""], weight: Float[Tensor, ""]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Weights a share's loss so that the mean over processes is the whole batch's, as DDP and logging average it.

        Returns:
            The weighted loss, and the weight of the whole batch.
        """
        of_all = weight.clone()
        torch.distributed.all_reduce(of_all)
        return loss * (self.trainer.world_size * weight / of_all), of_all

    def on_train_epoch_start(self) -> None:
        """Enter the epoch's phase; a new phase has an optimizer of its own."""
        torch.manual_seed((self.seed * 1_000_003 + self.current_epoch + self.global_rank * 2**40) % 2**63)
        self._forget("train")
        phase = phase_at(self.phases, self.current_epoch)
        if phase is not self.phase:
            self._enter(phase)
            strategy = self.trainer.strategy
            if isinstance(strategy, DDPStrategy):  # it exchanges the gradients of what was trainable when it was set up
                strategy.model = self
                strategy.configure_ddp()
            strategy.setup_optimizers(self.trainer)
        self._rates[self.current_epoch] = _rate(self.trainer.optimizers[0])
        if phase.solve and self.current_epoch == phase.first_epoch:
            self._solve(phase)
        if phase.fresh_head and self.current_epoch == phase.first_epoch:
            reset_head(self.network, self.seed)

    def _solve(self, phase: Phase) -> None:
        """Set the head to its optimum on the phase's features: the same in each process."""
        loaders: Any = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it
        train, val = loaders.features_to_solve(phase)
        views, groups = train.rows.size // len(train), loaders.sampling.groups
        probe = solve_head(
            head_inputs(self.network, train, phase.input_stage),
            train.targets.repeat(views),
            (head_inputs(self.network, val, phase.input_stage), val.targets),
            self.n_classes,
            balanced=self.loss.class_weights is not None or loaders.sampling.weighted,
            groups=(np.arange(len(train)) if groups is None else groups).repeat(views),
        )
        set_head(self.network, probe)
        log.info(
            "The head is solved: logistic regression with the penalty 1/%g, on %d images", probe.strength, len(train)
        )

    def on_train_epoch_end(self) -> None:
        """Log the epoch's training loss and metrics, as seen while training."""
        self._log_loss("train")
        self._log_metrics("train")
        self.log("learning_rate", self._rates[self.current_epoch])

    def on_validation_epoch_start(self) -> None:
        """Forget the outputs of the previous validation."""
        self._forget("val")

    def on_validation_epoch_end(self) -> None:
        """Log the validation loss and metrics."""
        self._log_loss("val")
        self._log_metrics("val")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Enter the phase in which a checkpoint was written, before its optimizer's state is restored.

        Args:
            checkpoint: as Lightning saved it; gets the learning rate of the run's schedule.
        """
        epoch = int(checkpoint["epoch"])
        self._rates = dict(checkpoint.get("learning_rates", {}))
        self._enter(phase_at(self.phases, epoch))
        self._follow_schedule(checkpoint, epoch + 1)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the learning rates of the epochs so far, and the length of the phase.

        Args:
            checkpoint: gets them.
        """
        checkpoint["learning_rates"] = dict(self._rates)
        checkpoint["phase_epochs"] = self.phase.epochs

    def _follow_schedule(self, checkpoint: dict[str, Any], done: int) -> None:
        """Set a checkpoint's learning rates to what the phase's schedule gives after so many epochs.

        They differ only if the run has been given more epochs since the checkpoint was written, or if a time budget has
        shortened the schedule, which it then does again.
        """
        configured = self.configure_optimizers()
        if not isinstance(configured, dict):
            return
        optimizer, schedule = configured["optimizer"], configured["lr_scheduler"]["scheduler"]
        differs = False
        with warnings.catch_warnings(action="ignore"):  # that the optimizer hasn't stepped
            for epoch in range(self.phase.first_epoch, done):
                differs = differs or self._rates.get(epoch) not in (None, _rate(optimizer))
                schedule.step()
        if differs and checkpoint.get("phase_epochs") != self.phase.epochs:
            log.info(
                "Not the same as a run of %d epochs from the start: the first %d epochs had the learning rates of a schedule "
                "of another length; from epoch %d on they follow the schedule of %d epochs (%.2g in epoch %d).",
                *(self.trainer.max_epochs, done, done + 1, self.trainer.max_epochs, _rate(optimizer), done + 1),
            )
        for group, fresh in zip(checkpoint["optimizer_states"][0]["param_groups"], optimizer.param_groups, strict=True):
            group.update({name: value for name, value in fresh.items() if name != "params"})
        checkpoint["lr_schedulers"] = [schedule.state_dict()]

    def configure_optimizers(self) -> Any:
        """Builds optimizer and schedule of the current phase; discriminative rates make the backbone a group of its own.

        Returns:
            An optimizer, or Lightning's dictionary of an optimizer and a schedule that steps after each epoch.
        """
        phase, network = self.phase, self.network
        cut = len(network.stage_names) if phase.backbone_factor == 1 else max(phase.boundary, network.head_start)
        backbone = _parameters(network, phase.boundary, cut)
        head = _parameters(network, cut, len(network.stage_names))
        if phase.solve:  # its steps change nothing
            return self.optimization.build_optimizer(head, backbone, 0.0, phase.backbone_factor)
        optimizer = self.optimization.build_optimizer(head, backbone, phase.learning_rate, phase.backbone_factor)
        schedule = self.optimization.build_schedule(optimizer, phase.epochs)
        if schedule is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _enter(self, phase: Phase) -> None:
        self.phase = phase
        freeze(self.network, phase.boundary)

    def _forget(self, split: str) -> None:
        self._outputs[split].clear()
        self._losses[split].clear()

    def _log_loss(self, split: str) -> None:
        """Log the weighted mean over the epoch's images; once per epoch, since logging costs more than a step of a small head.

        Raises:
            RunError: it is NaN or infinite; in all processes, and before the epoch's checkpoints are written.
        """
        losses, weights = (torch.stack(values) for values in zip(*self._losses[split], strict=True))
        mean = self.trainer.strategy.reduce((losses * weights).sum() / weights.sum(), reduce_op="mean")
        assert isinstance(mean, Tensor)
        if not mean.isfinite():
            raise RunError(
                f"Training gave no usable {split}/loss ({float(mean):g} in epoch {self.current_epoch + 1} of "
                f"{self.trainer.max_epochs}). A smaller learning rate (optimizer.lr=...) or trainer.precision=32 usually helps."
            )
        self.log(f"{split}/loss", mean)

    def _log_metrics(self, split: str) -> None:
        outputs = self._outputs[split]
        nothing = (
            torch.zeros(0, self.n_classes, device=self.device),
            torch.zeros(0, dtype=torch.int64, device=self.device),
        )
        logits, targets = (torch.cat(parts) for parts in zip(nothing, *outputs, strict=True))
        if self.trainer.world_size > 1:
            logits, targets = (torch.cat(gather_all_tensors(part)) for part in (logits, targets))
        if not len(targets):
            return
        collection = self.train_metrics if split == "train" else self.val_metrics
        collection.update(logits.softmax(1), targets)
        values: Mapping[str, Tensor] = collection.compute()
        collection.reset()
        outputs.clear()
        self.log_dict({name: value.float() for name, value in values.items()})
        if self.own_metrics:
            probabilities = logits.float().softmax(1).cpu().numpy()
            own = self.own_metrics.values(probabilities, targets.cpu().numpy())
            self.log_dict({f"{split}/{name}": value for name, value in own.items()})


def _rate(optimizer: Optimizer) -> float:
    """The learning rate of the head, or of the backbone where that trains alone."""
    return float(optimizer.param_groups[0]["lr"])


def _parameters(network: StagedNetwork, start: int, stop: int) -> list[torch.nn.Parameter]:
    return [parameter for position in range(start, stop) for parameter in network.stage(position).parameters()]
