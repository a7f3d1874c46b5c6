"""The phases in which a network trains, and their epochs: they depend on its weights and on the number of images."""

import math
from dataclasses import replace
from typing import Any

from raylight.config.schema import FinetuneConfig, PhaseConfig, RunConfig

FEWEST_EPOCHS = 3
"""Minimum number of epochs, for any number of images."""

LENGTHS = ("T_max", "epochs", "total_iters")
"""Arguments of schedulers for their length in epochs; ``null`` stands for the length of the training."""


def planned_epochs(run: RunConfig, images: int = 0) -> int:
    """Determines the number of epochs in all phases together.

    Args:
        run: all settings.
        images: number of images in training, validation and test together, so that all folds and seeds of a data set have the
            same number of epochs; 0 if it isn't known yet.

    Returns:
        The number of epochs; the maximum if the number of images isn't known.

    Example:
        >>> from raylight.config.schema import TrainerConfig
        >>> trainer = TrainerConfig(max_epochs=None)
        >>> run = RunConfig(finetune=FinetuneConfig(samples=20_000, most_epochs=12), trainer=trainer)
        >>> [planned_epochs(run, images) for images in (188, 2_002, 25_000)]
        [12, 10, 3]
    """
    if run.trainer.max_epochs is not None:
        return run.trainer.max_epochs
    most = run.finetune.most_epochs
    if run.finetune.samples is None or not images:
        return most
    return min(most, max(FEWEST_EPOCHS, round(run.finetune.samples / images)))


def with_epochs(run: RunConfig, images: int = 0) -> RunConfig:
    """Fills in the number of epochs where the settings leave it open.

    Args:
        run: all settings.
        images: number of images, see ``planned_epochs``.

    Returns:
        The settings with ``trainer.max_epochs`` and the length of the schedule.
    """
    epochs = planned_epochs(run, images)
    trainer, scheduler = replace(run.trainer, max_epochs=epochs), with_length(run.scheduler, None, epochs)
    return replace(run, trainer=trainer, scheduler=scheduler)


def with_length(scheduler: Any, planned: int | None, epochs: int) -> Any:
    """Replaces the length of a schedule if it is that of the whole training; a length of its own is kept.

    Args:
        scheduler: its ``_target_`` node, or ``None``.
        planned: length of the training so far; ``None`` if it was left open.
        epochs: new length of the training.

    Returns:
        The node.

    Example:
        >>> with_length({"T_max": None, "eta_min": None}, None, 12)
        {'T_max': 12, 'eta_min': None}
        >>> with_length({"T_max": 10, "last_epoch": 10}, 10, 20), with_length({"T_max": 7}, 10, 20)
        ({'T_max': 20, 'last_epoch': 10}, {'T_max': 7})
    """
    return scheduler and {
        key: epochs if key in LENGTHS and value == planned else value for key, value in scheduler.items()
    }


def recipe_of(run: RunConfig) -> FinetuneConfig:
    """Resolves the fine-tuning of a run: replaces its phases if there are no weights, and converts shares to epochs.

    Args:
        run: all settings.

    Returns:
        The settings of the fine-tuning, with lengths in epochs only.
    """
    finetune = run.finetune
    phases = finetune.without_weights if run.model.weights is None and finetune.without_weights else finetune.phases
    if any(phase.share is not None for phase in phases):
        phases = shares_to_epochs(phases, planned_epochs(run))
    return replace(finetune, phases=phases)


def shares_to_epochs(phases: list[PhaseConfig], max_epochs: int) -> list[PhaseConfig]:
    """Converts the lengths of phases from shares to epochs.

    Args:
        phases: in order.
        max_epochs: number of epochs in all phases together.

    Returns:
        The phases without shares; those for which no epoch is left are dropped.

    Example:
        >>> [phase.epochs for phase in shares_to_epochs([PhaseConfig(share=0.5), PhaseConfig()], 5)]
        [3, None]
    """
    left, found = max_epochs, []
    for phase in phases:
        length = phase.epochs if phase.share is None else math.ceil(phase.share * max_epochs)
        if left:
            found.append(replace(phase, epochs=length if length is None else min(length, left), share=None))
        left -= min(length or left, left)
    return found
