"""Which phases a network trains in: by whether it has weights, and by how many epochs there are."""

import math
from dataclasses import replace

from raylight.config.schema import FinetuneConfig, PhaseConfig, RunConfig


def recipe_of(run: RunConfig) -> FinetuneConfig:
    """The fine-tuning for a run's network and number of epochs: without weights its other phases, shares as epochs.

    Args:
        run: the config.
    """
    finetune = run.finetune
    phases = finetune.without_weights if run.model.weights is None and finetune.without_weights else finetune.phases
    if any(phase.share is not None for phase in phases):
        phases = shared_out(phases, run.trainer.max_epochs)
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
