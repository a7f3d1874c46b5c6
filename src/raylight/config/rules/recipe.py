"""Which phases a network trains in, and for how many epochs: by whether it has weights, and by the number of images."""

import math
from dataclasses import replace

from raylight.config.schema import FinetuneConfig, PhaseConfig, RunConfig

FEWEST_EPOCHS = 3
"""However many images there are."""

LENGTHS = ("T_max", "epochs", "total_iters")
"""Arguments by which schedules are told their length in epochs; a length of ``null`` is that of the training."""


def planned_epochs(run: RunConfig, images: int = 0) -> int:
    """Epochs in all phases together.

    Args:
        run: the config.
        images: in training, validation and test together, so that folds and seeds of one data set train alike; 0 as long as
            they aren't counted gives the most epochs that there may be.

    >>> from raylight.config.schema import TrainerConfig
    >>> open_end = RunConfig(finetune=FinetuneConfig(samples=20_000, most_epochs=12), trainer=TrainerConfig(max_epochs=None))
    >>> [planned_epochs(open_end, images) for images in (188, 2_002, 25_000)]
    [12, 10, 3]
    """
    if run.trainer.max_epochs is not None:
        return run.trainer.max_epochs
    most = run.finetune.most_epochs
    if run.finetune.samples is None or not images:
        return most
    return min(most, max(FEWEST_EPOCHS, round(run.finetune.samples / images)))


def with_epochs(run: RunConfig, images: int = 0) -> RunConfig:
    """The config with a number of epochs, in its schedule too.

    Args:
        run: the config.
        images: see ``planned_epochs``.
    """
    epochs = planned_epochs(run, images)
    scheduler = run.scheduler and {
        key: epochs if key in LENGTHS and value is None else value for key, value in run.scheduler.items()
    }
    return replace(run, trainer=replace(run.trainer, max_epochs=epochs), scheduler=scheduler)


def recipe_of(run: RunConfig) -> FinetuneConfig:
    """The fine-tuning for a run's network and number of epochs: without weights its other phases, shares as epochs.

    Args:
        run: the config.
    """
    finetune = run.finetune
    phases = finetune.without_weights if run.model.weights is None and finetune.without_weights else finetune.phases
    if any(phase.share is not None for phase in phases):
        phases = shared_out(phases, planned_epochs(run))
    return replace(finetune, phases=phases)


def shared_out(phases: list[PhaseConfig], max_epochs: int) -> list[PhaseConfig]:
    """Phases with their shares as epochs; those for which no epoch is left are dropped.

    Args:
        phases: in order.
        max_epochs: of all of them.

    >>> [phase.epochs for phase in shared_out([PhaseConfig(share=0.5), PhaseConfig()], 5)]
    [3, None]
    """
    left, found = max_epochs, []
    for phase in phases:
        length = phase.epochs if phase.share is None else math.ceil(phase.share * max_epochs)
        if left:
            found.append(replace(phase, epochs=length if length is None else min(length, left), share=None))
        left -= min(length or left, left)
    return found
