"""A dry run: everything in a checked config is built and used once on dummy data, so that errors show before any work.

Only the classes themselves can check a network's name, weights and stages, or the arguments of an optimizer or
transform. Leaves out what depends on the images (``pipeline.images``).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raylight.config.rules.nodes import cause_text, logger_nodes
from raylight.config.rules.pretrained import model_input
from raylight.config.rules.recipe import planned_epochs, recipe_of, with_epochs
from raylight.config.rules.shapes import height_width, size_text
from raylight.config.schema import (
    AugmentConfig,
    DataConfig,
    FinetuneConfig,
    LoggerConfig,
    LossConfig,
    ModelConfig,
    PhaseConfig,
    RunConfig,
)
from raylight.config.uris import is_uri
from raylight.errors import ConfigError, DataError, WeightsError

if TYPE_CHECKING:
    from raylight.models.stages import StagedNetwork

LONGEST_SCHEDULE = 1000
"""Maximum number of epochs of a schedule that are tried."""

_found: dict[str, list[str]] = {}


@dataclass(frozen=True)
class Requirements:
    """What a run requires of its network besides classes.

    Attributes:
        mixing: images are mixed, so that each step computes all layers.
        features: the inputs of the classifier head are needed, for ``decision.unknown``.
    """

    mixing: bool
    features: bool


def rehearsal_problems(config: RunConfig) -> list[str]:
    """Every problem in building and using the network, the optimizer, the schedule and the transforms.

    Args:
        config: checked, so that its ``_target_`` nodes are trusted. Parts that equal an earlier config's (in a sweep) aren't
            tried again.
    """
    config = with_epochs(config)
    finetune, epochs = recipe_of(config), planned_epochs(config)
    sizes = config.trainer.batch_size, config.trainer.num_workers
    required = Requirements(bool(config.augment.batch), config.decision.unknown is not None)
    return [
        *_share_problems(config.data),
        *_once(_network_problems, config.model, finetune, epochs, required, *sizes),
        *_once(_try_loss, config.loss, bool(config.augment.batch)),
        *_once(_try_mixing, config.augment, config.model, config.seed),
        *_once(_try_companions, config.callbacks, config.logger, config.metrics),
        *_once(_optimization_problems, config.optimizer, config.scheduler, finetune.phases, epochs),
        *_once(_try_transforms, config.augment, config.model, config.seed),
    ]


def _once(check: Callable[..., Iterator[str] | None], *settings: Any) -> list[str]:
    """The problems that a check yields, and those of the ``ConfigError`` that ends it."""
    key = f"{check.__name__} {settings!r}"
    if key not in _found:
        found: list[str] = []
        try:
            for problem in check(*settings) or ():
                found.append(problem)  # noqa: PERF402 - those before an error count, too
        except ConfigError as error:
            found += error.problems
        _found[key] = found
    return _found[key]


def _share_problems(data: DataConfig) -> Iterator[str]:
    """Of shares of 0, where names of files that are here already tell whether the data set ships a split."""
    if (data.val_fraction and data.test_fraction) or data.source is not None or (data.root and is_uri(data.root)):
        return
    from raylight.data.sources.source import find_images
    from raylight.data.splits.check import share_problems

    shipped: set[str | None] = set()
    if data.kind != "demo":
        try:
            found = find_images(replace(data, download=False), Path(), groups_needed=False)
        except DataError:
            return  # reported when the images are indexed
        shipped = {file.split for file in found.files}
    yield from share_problems(data, shipped)


def _network_problems(
    model: ModelConfig, finetune: FinetuneConfig, epochs: int, required: "Requirements", batch_size: int, processes: int
) -> Iterator[str]:
    """Of a network for two classes and the phases of its training; published weights are downloaded if they aren't here yet."""
    from raylight.models.build import build_network
    from raylight.training.phases import int8_problems, plan_phases

    try:
        network = build_network(model, n_classes=2)
    except WeightsError as error:
        yield str(error)
        return
    if required.features and not (network.sequential and network.head_start):
        yield (
            f"decision.unknown: looks at what enters the classifier head, and {model.name} can't be cut in front of it; leave "
            "it out, or give the network stages (docs/extending.md)"
        )
    phases = plan_phases(network, finetune, epochs, model.last_blocks_from)
    if finetune.features_precision == "int8":
        yield from int8_problems(network, phases)
    alone = batch_size < 2 * processes  # some process gets one image at a time
    if alone and any(phase.batch_norm and not _trains_on_one(network, phase.boundary, model) for phase in phases):
        yield (
            f"trainer.batch_size: {batch_size} gives a training process one image at a time, and the BatchNorm layers of "
            f"{model.name} that train need more at {size_text(model_input(model).size)} pixels; use {2 * processes} or more, "
            "or a larger model.image_size"
        )
    if required.mixing and any(phase.input_stage for phase in phases):
        yield (
            f"augment.batch: mixes pictures, and finetune={finetune.name} trains from cached features of frozen layers; "
            "use finetune=full, or recompute them in each step with finetune.cache=false, or leave augment.batch empty"
        )


def _try_mixing(augment: AugmentConfig, model: ModelConfig, seed: int) -> None:
    """Try the batch transforms, each twice on one batch."""
    if augment.batch:
        from raylight.data.mixing import check_mixing

        check_mixing(augment, seed, model_input(model).size)


def _try_loss(loss: LossConfig, soft: bool) -> None:
    """Try the loss on two classes."""
    import torch

    from raylight.training.losses import build_loss

    build_loss(loss, 2, torch.ones(2) if loss.class_weights else None, soft=soft)


def _try_companions(callbacks: list[Any], logger: LoggerConfig, metrics: dict[str, Any]) -> None:
    """Build the callbacks and loggers, and try the metrics."""
    if metrics:
        from raylight.evaluation.definitions.own import check_metrics

        check_metrics(metrics)
    if callbacks:
        from raylight.training.callbacks.own import build_callbacks

        build_callbacks(callbacks)
    if logger_nodes(logger):
        from raylight.runs.loggers import check_loggers

        check_loggers(logger)


def _trains_on_one(network: "StagedNetwork", boundary: int, model: ModelConfig) -> bool:
    """Whether BatchNorm has several values per channel in one image; it raises ValueError where it has one."""
    import torch

    from raylight.models.freezing import freeze

    freeze(network, boundary)
    size = height_width(model_input(model).size)
    try:
        with torch.no_grad():
            network.train().run(torch.zeros(1, 3, *size), 0, None)
    except ValueError:
        return False
    return True


def _optimization_problems(optimizer: Any, scheduler: Any, phases: list[PhaseConfig], epochs: int) -> Iterator[str]:
    """Of one step of the optimizer and all of the schedule, in each phase."""
    import torch

    from raylight.training.optimization import Optimization

    optimization = Optimization(optimizer, scheduler, per_phase=len(phases) > 1)
    images = torch.ones(1, 2)
    for phase in phases:
        dummy = torch.nn.Linear(2, 2)
        head, backbone = list(dummy.parameters()), []
        if phase.backbone_factor != 1:
            backbone.append(head.pop())
        dummy(images).sum().backward()
        loss = dummy(images).sum().detach
        length = phase.epochs or epochs - sum(other.epochs or 0 for other in phases)
        part, node = "optimizer", optimizer
        try:
            stepping = optimization.build_optimizer(head, backbone, phase.learning_rate, phase.backbone_factor)
            part, node = "scheduler", scheduler
            schedule = optimization.build_schedule(stepping, length)
            part, node = "optimizer", optimizer
            stepping.step(loss)
            part, node = "scheduler", scheduler
            for epoch in range(min(length, LONGEST_SCHEDULE)):
                if schedule is None:
                    break
                rate = float(stepping.param_groups[0]["lr"])
                if not 0 <= rate < float("inf"):
                    yield f"scheduler: {node['_target_']} makes the learning rate {rate:g} in epoch {epoch + 1} of a phase"
                    return
                schedule.step()
        except Exception as error:
            yield f"{part}: {node['_target_']}: {cause_text(error)}"
            return


def _try_transforms(augment: AugmentConfig, model: ModelConfig, seed: int) -> None:
    """Try the transforms, each twice on one image: transforms must be repeatable."""
    from raylight.data.augment import check_augmentation

    check_augmentation(augment.transforms, seed, model_input(model).size)
