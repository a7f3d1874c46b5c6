"""Freezing: which stages of a network train, and which need to be computed only once.

Frozen means: no gradients, BatchNorm and dropout in eval mode even after ``train()``, and statistics unchanged.
``training.features`` stores the outputs of frozen stages.
"""

from torch import nn

from raylight.errors import ConfigError, did_you_mean
from raylight.models.stages import StagedNetwork


def freeze_boundary(network: StagedNetwork, train_from: str, last_blocks_from: str | None = None) -> int:
    """Finds the first stage that trains.

    Args:
        network: the network.
        train_from: ``all``, ``head``, ``last_blocks``, or the name of a stage; a prefix of several names (``layer4`` of
            resnet18) means the first of them.
        last_blocks_from: the stage where ``last_blocks`` begin; ``None`` takes the last quarter of the stages below the head.

    Returns:
        Its position; 0 if all stages train.

    Raises:
        ConfigError: the network has no such stage.
    """
    if train_from == "all":
        return 0
    if not network.sequential:
        raise ConfigError(
            [f"train_from: {train_from!r} is impossible: the layers of this network don't run in sequence; use 'all'"]
        )
    if train_from == "head":
        return network.head_start
    if train_from == "last_blocks":
        if last_blocks_from is None:
            if network.head_start < 4:
                raise ConfigError(
                    [
                        "train_from: 'last_blocks' is impossible: this network can only be split before its head; "
                        "use 'head' or 'all'"
                    ]
                )
            return network.head_start - network.head_start // 4
        return _position(network, last_blocks_from, "model.last_blocks_from")
    return _position(network, train_from, "train_from")


def _position(network: StagedNetwork, name: str, setting: str) -> int:
    for position, stage in enumerate(network.stage_names):
        if stage == name or stage.startswith(f"{name}."):
            return position
    known = [
        "all",
        "head",
        "last_blocks",
        *network.stage_names,
        *dict.fromkeys(stage.rpartition(".")[0] for stage in network.stage_names),
    ]
    hint = did_you_mean(name, filter(None, known)) or "; one of: " + ", ".join(network.stage_names)
    raise ConfigError([f"{setting}: the network has no stage {name!r}{hint}"])


def freeze(network: StagedNetwork, boundary: int) -> None:
    """Freezes the stages below a position and unfreezes the others; the training mode of the network is kept.

    Args:
        network: changed in place.
        boundary: position of the first stage that trains; 0 unfreezes everything.
    """
    trainable = {
        id(parameter)
        for position in range(boundary, len(network.stage_names))
        for parameter in network.stage(position).parameters()
    }
    for parameter in network.parameters():
        # An optimizer that has all parameters would still apply a gradient left from an earlier phase.
        if id(parameter) not in trainable and boundary > 0:
            parameter.requires_grad_(False)
            parameter.grad = None
        else:
            parameter.requires_grad_(True)
    network.frozen_below = boundary
    network.train(network.training)


def has_trainable_batch_norm(network: StagedNetwork, boundary: int) -> bool:
    """Whether a stage that trains has BatchNorm, so that the output for an image depends on the rest of its batch.

    Args:
        network: the network.
        boundary: position of the first stage that trains.

    Returns:
        Whether there is such a stage.
    """
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm)
        for position in range(boundary, len(network.stage_names))
        for module in network.stage(position).modules()
    )


def constant_until(network: StagedNetwork, boundary: int) -> int:
    """Finds the position up to which everything is a constant function of the image.

    That is the freeze boundary, moved up past stages that have nothing to train and nothing random, such as pooling and
    flattening: only their outputs need to be stored, not their inputs.

    Args:
        network: the network.
        boundary: position of the first stage that trains.

    Returns:
        A position, at least ``boundary``; 0 if nothing is frozen or the network couldn't be split.
    """
    if boundary == 0 or not network.sequential:
        return 0
    last = len(network.stage_names) - 1
    while boundary < last and _is_constant(network.stage(boundary)):
        boundary += 1
    return boundary


def _is_constant(stage: nn.Module) -> bool:
    has_state = any(True for _ in stage.parameters()) or any(True for _ in stage.buffers())
    return not has_state and not any(_is_random(module) for module in stage.modules())


def _is_random(module: nn.Module) -> bool:
    if isinstance(module, nn.RReLU):
        return True
    # Dropout modules and torchvision's StochasticDepth have the attribute p, the probability of dropping a value.
    probability = getattr(module, "p", None)
    return isinstance(probability, float) and probability > 0
