"""The phases of a fine-tuning recipe, bound to a network: which stages train in which epochs."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from raylight.config.schema import FinetuneConfig
from raylight.cpu.quantising import int8_supported
from raylight.data.mixing import Mixer
from raylight.errors import ConfigError
from raylight.models.freezing import constant_until, freeze_boundary, has_trainable_batch_norm
from raylight.models.stages import StagedNetwork
from raylight.training.losses import Loss
from raylight.training.optimization import Optimization
from raylight.training.probe import linear_head

MOST_VIEWS = 10
"""Default limit of views per image: each costs a pass through the frozen layers, and disk space."""

VIEWS_TO_SOLVE = 4
"""Default number of views per image that a head is solved on. On chest films 14 validation images don't tell it from ten, which
take two to three times as long (``experiments/recipes``)."""


@dataclass(frozen=True)
class Phase:
    """A range of epochs with one freeze boundary.

    Attributes:
        first_epoch: the first epoch, counted from 0.
        epochs: length, in epochs.
        boundary: position of the first stage that trains.
        input_stage: position of the stage at which cached training begins: the layers below are a constant function of the
            image. 0 without such layers, or without caching.
        learning_rate: of this phase; None takes the optimizer's.
        backbone_factor: multiple of the learning rate for stages below the head.
        views: cached augmented views per training image, used in turn, one per epoch; 0 caches the image as it is.
        batch_norm: whether BatchNorm trains, which may need more than one image at a time.
        solve: the head is set to its optimum at the beginning, and its only epoch changes nothing.
        fresh_head: the head gets random weights at the beginning.
    """

    first_epoch: int
    epochs: int
    boundary: int
    input_stage: int
    learning_rate: float | None
    backbone_factor: float
    views: int = 1
    batch_norm: bool = False
    solve: bool = False
    fresh_head: bool = False


@dataclass(frozen=True)
class TrainingPlan:
    """How a network is trained.

    Attributes:
        phases: in order.
        optimization: builds the optimizer and the schedule of each phase.
        loss: the loss.
        mixer: mixes the images of training batches; then no phase may begin with features.
    """

    phases: tuple[Phase, ...]
    optimization: Optimization
    loss: Loss
    mixer: Mixer | None = None


def plan_phases(
    network: StagedNetwork, finetune: FinetuneConfig, max_epochs: int, last_blocks_from: str | None
) -> tuple[Phase, ...]:
    """Binds a recipe to a network.

    Args:
        network: the network.
        finetune: the recipe.
        max_epochs: epochs of all phases together; the last phase takes what the others leave.
        last_blocks_from: stage that ``last_blocks`` stands for.

    Returns:
        The phases, in order and without a gap.

    Raises:
        ConfigError: a phase names a stage that the network doesn't have, or solves a head that can't be.
    """
    phases: list[Phase] = []
    first_epoch = 0
    for phase in finetune.phases:
        start = freeze_boundary(network, phase.train_from, last_blocks_from)
        until = constant_until(network, start) if finetune.cache and start > 0 else 0
        solve = phase.solve and until > 0 and linear_head(network) is not None
        if phase.solve and not solve and phase.epochs is None:
            raise ConfigError(
                [
                    f"finetune: {finetune.name!r} solves a head of one linear layer on cached features; "
                    + ("this network has no such head: use finetune=frozen" if until else "set finetune.cache=true")
                ]
            )
        epochs = max_epochs - first_epoch if phase.epochs is None else 1 if solve else phase.epochs
        phases.append(
            Phase(
                first_epoch=first_epoch,
                epochs=epochs,
                boundary=start,
                input_stage=until,
                learning_rate=phase.learning_rate,
                backbone_factor=phase.backbone_factor,
                views=_views(finetune.views, epochs, solve),
                batch_norm=has_trainable_batch_norm(network, start),
                solve=solve,
                fresh_head=phase.fresh_head,
            )
        )
        first_epoch += phases[-1].epochs
    return tuple(_sharing_features(phases))


def _sharing_features(phases: Sequence[Phase]) -> Iterator[Phase]:
    """Start a solved head at the cached features of the next phase, so that the layers below are computed once."""
    for phase, following in itertools.zip_longest(phases, phases[1:]):
        shared = phase.solve and following is not None and 0 < following.input_stage < phase.input_stage
        yield replace(phase, input_stage=following.input_stage, views=following.views) if shared else phase


def _views(asked: int | None, epochs: int, solve: bool) -> int:
    if asked is not None:
        return asked
    return VIEWS_TO_SOLVE if solve else min(epochs, MOST_VIEWS)


def int8_problems(network: StagedNetwork, phases: Sequence[Phase]) -> Iterator[str]:
    """Why the cached features of a recipe can't be computed in int8.

    Args:
        network: the network.
        phases: of the recipe, bound to it.

    Yields:
        A sentence per problem.
    """
    setting, way_out = "finetune.features_precision: int8", "use finetune.features_precision=auto"
    if not int8_supported():
        yield f"{setting} would be slower on this processor, which has no int8 instructions (VNNI); {way_out}"
    if not any(phase.input_stage for phase in phases):
        yield f"{setting}, but no layers are frozen and cached; {way_out}, or finetune=probe"
    elif linear_head(network) is None:
        yield f"{setting} is certified by linear heads, and this network's isn't one; {way_out}"
    if any(phase.input_stage > earlier.boundary for i, phase in enumerate(phases) for earlier in phases[:i]):
        yield f"{setting} is certified before training, and a phase caches layers that an earlier one trains; {way_out}"


def phase_at(phases: tuple[Phase, ...], epoch: int) -> Phase:
    """The phase that an epoch belongs to.

    Args:
        phases: in order.
        epoch: counted from 0; epochs past the end belong to the last phase.

    Returns:
        One of ``phases``.
    """
    return next((phase for phase in phases if epoch < phase.first_epoch + phase.epochs), phases[-1])


def describe_phases(phases: Sequence[Phase], stage_names: Sequence[str], head_start: int) -> str:
    """Describes which layers train in which epochs, counted from 1.

    Args:
        phases: in order.
        stage_names: of the network.
        head_start: position of the head's first stage.

    Returns:
        Part of a sentence.

    Example:
        >>> phases = [Phase(0, 1, 2, 1, None, 1.0, solve=True), Phase(1, 11, 1, 1, 1e-4, 1.0)]
        >>> describe_phases(phases, ["stem", "layer4", "fc"], 2)
        'the head is solved, then epochs 2 to 12 train from layer4 on at 0.0001'
    """
    parts = []
    for phase in phases:
        first, last = phase.first_epoch + 1, phase.first_epoch + phase.epochs
        epochs = f"epochs {first} to {last} train" if last > first else f"epoch {first} trains"
        part = "all layers" if phase.boundary == 0 else "the head"
        part = f"from {stage_names[phase.boundary]} on" if 0 < phase.boundary < head_start else part
        rate = "" if phase.learning_rate is None else f" at {phase.learning_rate:g}"
        parts.append("the head is solved" if phase.solve else f"{epochs} {part}{rate}")
    return ", then ".join(parts)


def describe_views(phases: Sequence[Phase]) -> str | None:
    """Describes how random augmentation is cached below the layers that train.

    Args:
        phases: in order.

    Returns:
        A sentence; None where nothing is cached.

    Example:
        >>> describe_views([Phase(0, 8, 19, 19, None, 1.0, views=8)])
        'Frozen layers: 8 augmented views per image, one per epoch in turn (finetune.views).'
    """
    counts = [phase.views for phase in phases if phase.input_stage]
    if not counts:
        return None
    if not any(counts):
        return "Frozen layers: the images as they are; augmentation is left out below the layers that train (finetune.views=0)."
    views = " and then ".join(f"{count} augmented view{'s' if count > 1 else ''}" for count in counts)
    fixed = any(phase.input_stage and phase.views == 1 < phase.epochs for phase in phases)
    turn = "the same in every epoch" if fixed else "one per epoch in turn"
    return f"Frozen layers: {views} per image, {turn} (finetune.views)."
