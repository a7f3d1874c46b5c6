"""The optimizer and the learning-rate schedule of a phase, built from the ``_target_`` nodes of a config."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hydra.utils import instantiate
from torch.nn import Parameter
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from raylight.config.rules.recipe import LENGTHS


@dataclass(frozen=True)
class Optimization:
    """Builds the optimizer and the schedule of each phase.

    Attributes:
        optimizer: ``_target_`` node of a ``torch.optim`` class.
        scheduler: ``_target_`` node of a class of ``torch.optim.lr_scheduler``; None keeps rates constant.
        per_phase: each phase has a schedule of its own length, instead of the length in the node.
    """

    optimizer: Any
    scheduler: Any
    per_phase: bool

    def build_optimizer(
        self, head: Sequence[Parameter], backbone: Sequence[Parameter], rate: float | None, backbone_factor: float
    ) -> Optimizer:
        """Builds the optimizer of a phase; discriminative rates make the backbone a group of its own.

        Args:
            head: parameters that train at the full learning rate.
            backbone: parameters that train at ``backbone_factor`` times that; alone, they train at the full rate.
            rate: learning rate; None takes the node's.
            backbone_factor: multiple of the rate.

        Returns:
            The optimizer, with one or two groups of parameters, the head's first.
        """
        rates = {} if rate is None else {"lr": rate}
        optimizer: Optimizer = instantiate(self.optimizer, _partial_=True)([{"params": head or backbone}], **rates)
        if head and backbone:
            full_rate = optimizer.param_groups[0]["lr"]
            optimizer.add_param_group({"params": backbone, "lr": full_rate * backbone_factor})
        return optimizer

    def build_schedule(self, optimizer: Optimizer, epochs: int) -> LRScheduler | None:
        """Builds the learning-rate schedule of a phase, stepped once after each epoch.

        Args:
            optimizer: whose rates to schedule.
            epochs: length of the phase.

        Returns:
            The schedule; None for constant rates.
        """
        return None if self.scheduler is None else self._schedule(optimizer, epochs, epochs)

    def shortened_schedule(self, optimizer: Optimizer, planned: int, epochs: int, done: int) -> LRScheduler | None:
        """Builds a phase's schedule for fewer epochs than planned, and sets the learning rates to those it has now.

        Args:
            optimizer: whose rates to schedule.
            planned: length of the phase.
            epochs: length of the schedule.
            done: number of epochs of the phase so far.

        Returns:
            The schedule; None if it isn't as long as the phase, so that the rates stay as they are.
        """
        if not self._lengths(planned):
            return None
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"]
        schedule = self._schedule(optimizer, planned, epochs)
        with warnings.catch_warnings(action="ignore"):  # a resumed optimizer hasn't stepped yet
            for _ in range(done):
                schedule.step()
        return schedule

    def _schedule(self, optimizer: Optimizer, planned: int, epochs: int) -> LRScheduler:
        lengths = dict.fromkeys(self._lengths(planned), epochs)
        schedule: LRScheduler = instantiate(self.scheduler, _partial_=True)(optimizer, **lengths)
        return schedule

    def _lengths(self, planned: int) -> list[str]:
        """Arguments of the scheduler that are the length of the phase."""
        node = self.scheduler or {}
        return [name for name in LENGTHS if name in node and (self.per_phase or node[name] == planned)]
