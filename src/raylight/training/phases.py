"""The phases of a fine-tuning recipe, bound to a network: which stages train in which epochs."""

from dataclasses import dataclass

from raylight.config.schema import FinetuneConfig
from raylight.models.freezing import boundary, constant_until
from raylight.models.stages import StagedNetwork


@dataclass(frozen=True)
class Phase:
    """A stretch of epochs with one freeze boundary.

    Attributes:
        first_epoch: the first epoch, counted from 0.
        epochs: length, in epochs.
        boundary: position of the first stage that trains.
        input_stage: position of the stage at which cached training begins: what lies below is a constant function
            of the image. 0 when nothing is, or nothing shall be cached.
        learning_rate: of this phase; None takes the optimizer's.
        backbone_factor: multiple of the learning rate for stages below the head.
    """

    first_epoch: int
    epochs: int
    boundary: int
    input_stage: int
    learning_rate: float | None
    backbone_factor: float


def plan_phases(
    network: StagedNetwork, finetune: FinetuneConfig, max_epochs: int, last_blocks_from: str | None
) -> tuple[Phase, ...]:
    """Bind a recipe to a network.

    Args:
        network: the network.
        finetune: the recipe.
        max_epochs: epochs of all phases together; the last phase takes what the others leave.
        last_blocks_from: stage that ``last_blocks`` stands for.

    Raises:
        ConfigError: a phase names a stage that the network doesn't have.
    """
    phases: list[Phase] = []
    first_epoch = 0
    for phase in finetune.phases:
        start = boundary(network, phase.train_from, last_blocks_from)
        phases.append(
            Phase(
                first_epoch=first_epoch,
                epochs=phase.epochs if phase.epochs is not None else max_epochs - first_epoch,
                boundary=start,
                input_stage=constant_until(network, start) if finetune.cache and start > 0 else 0,
                learning_rate=phase.learning_rate,
                backbone_factor=phase.backbone_factor,
            )
        )
        first_epoch += phases[-1].epochs
    return tuple(phases)


def phase_at(phases: tuple[Phase, ...], epoch: int) -> Phase:
    """The phase that an epoch belongs to; epochs past the end belong to the last one."""
    return next((phase for phase in phases if epoch < phase.first_epoch + phase.epochs), phases[-1])
