"""Which stages of a network train, and which can be computed once.

Frozen means: no gradient, BatchNorm and dropout in eval, statistics unchanged, whatever ``train()`` is called. Storing
the outputs of frozen stages is left to ``training.features``.
"""

from torch import nn

from raylight.errors import ConfigError, did_you_mean
from raylight.models.stages import StagedNetwork


def boundary(network: StagedNetwork, train_from: str, last_blocks_from: str | None = None) -> int:
    """Position of the first stage that trains.

    Args:
        network: the network.
        train_from: ``all``, ``head``, ``last_blocks``, or a stage's name; the first part of several stages' names
            (``layer4`` of resnet18) stands for the first of them.
        last_blocks_from: the stage that ``last_blocks`` stands for; None takes the last quarter of the stages below
            the head.

    Raises:
        ConfigError: the network has no such stage.
    """
    if train_from == "all":
        return 0
    if not network.sequential:
        raise ConfigError(
            [f"train_from: {train_from!r} is impossible, the layers of this network don't run in sequence; use 'all'"]
        )
    if train_from == "head":
        return network.head_start
    if train_from == "last_blocks":
        if last_blocks_from is None:
            if network.head_start < 4:
                raise ConfigError(
                    [
                        "train_from: 'last_blocks' is impossible, this network can only be cut before its head; "
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
    """Freeze the stages below a position and let the others train; the network's training mode is kept.

    Args:
        network: changed in place.
        boundary: position of the first stage that trains; 0 frees everything.
    """
    trainable = {
        id(parameter)
        for position in range(boundary, len(network.stage_names))
        for parameter in network.stage(position).parameters()
    }
    for parameter in network.parameters():
        # A gradient left from an earlier phase would still be applied by optimizers that get all parameters.
        if id(parameter) not in trainable and boundary > 0:
            parameter.requires_grad_(False)
            parameter.grad = None
        else:
            parameter.requires_grad_(True)
    network.frozen_below = boundary
    network.train(network.training)


def has_trainable_batch_norm(network: StagedNetwork, boundary: int) -> bool:
    """Whether BatchNorm is among the stages that train: there an image's output depends on the images beside it."""
    return any(
        isinstance(module, nn.modules.batchnorm._BatchNorm)
        for position in range(boundary, len(network.stage_names))
        for module in network.stage(position).modules()
    )


def constant_until(network: StagedNetwork, boundary: int) -> int:
    """Position up to which everything is a constant function of the image.

    That is the freeze boundary, moved up past stages that have nothing to train and nothing random, such as pooling and
    flattening: what enters them need not be kept, only what leaves them.

    Args:
        network: the network.
        boundary: position of the first stage that trains.

    Returns:
        A position from ``boundary`` to the number of stages; 0 when nothing is frozen or the network couldn't be cut.
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
    # Dropouts and torchvision's StochasticDepth share the attribute p, the share that they drop.
    share = getattr(module, "p", None)
    return isinstance(share, float) and share > 0
