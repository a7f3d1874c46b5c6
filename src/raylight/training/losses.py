"""The training loss: cross-entropy and the focal loss, or any module of the user's, named by ``loss._target_``.

Targets are classes, or shares of several classes (soft targets) where pictures are mixed.
"""

from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn
from torch.nn import functional as nnf

from raylight.config.rules.nodes import build_for_classes, cause_text, find_target, loss_node, parameters_of
from raylight.config.schema import LossConfig
from raylight.errors import ConfigError

WEIGHT_PARAMETERS = ("weight", "class_weights")
"""What a loss's parameter for the weight of each class may be called."""


def classification_loss(
    logits: Float[Tensor, "batch class"],
    targets: Shaped[Tensor, "batch ..."],
    loss: LossConfig,
    class_weights: Float[Tensor, " class"] | None,
) -> Float[Tensor, ""]:
    """Cross-entropy with label smoothing, or the focal loss: the weighted sum over images, divided by the sum of their weights.

    A sigmoid head's logits arrive as [0, z], for which cross-entropy is binary cross-entropy. Soft targets give the mean of
    their classes' losses, weighted by their shares.

    Args:
        logits: of every class.
        targets: int64[batch], position of each image's class; or float[batch, class], shares that sum to 1.
        loss: label smoothing and focal exponent (Lin et al. 2017, equation 5).
        class_weights: weight of each class; None weighs all alike.

    Returns:
        A scalar in nats, at least 0.

    Example:
        >>> logits = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).log()
        >>> loss = classification_loss(logits, torch.tensor([0, 1]), LossConfig(), class_weights=None)
        >>> round(loss.item(), 4), round(float(-(0.9 * torch.tensor(0.8)).log() / 2), 4)
        (0.1643, 0.1643)
    """
    smoothing, gamma = loss.label_smoothing, loss.focal_gamma
    if gamma == 0:
        each = nnf.cross_entropy(logits, targets, class_weights, label_smoothing=smoothing, reduction="none")
    else:
        likelihoods = logits.log_softmax(1)
        costs = -likelihoods if class_weights is None else -likelihoods * class_weights
        of_class = (1 - smoothing) * costs + smoothing * costs.mean(1, keepdim=True)
        shares = targets if targets.ndim == 2 else nnf.one_hot(targets, logits.shape[1])
        each = (shares * (1 - likelihoods.exp()) ** gamma * of_class).sum(1)
    return each.sum() / loss_weight(targets, class_weights)


def loss_weight(
    targets: Shaped[Tensor, "batch ..."], class_weights: Float[Tensor, " class"] | None
) -> Float[Tensor, ""]:
    """The sum of the images' weights, by which ``classification_loss`` divides: the weight of a batch in an epoch's loss.

    Args:
        targets: int64[batch], or float[batch, class], as for ``classification_loss``.
        class_weights: weight of each class; None weighs all alike.

    Returns:
        A scalar; the number of images without class weights.

    Example:
        >>> loss_weight(torch.tensor([0, 1, 1]), torch.tensor([3.0, 1.0])).item()
        5.0
    """
    if class_weights is None:
        return torch.tensor(float(len(targets)), device=targets.device)
    return (targets @ class_weights if targets.ndim == 2 else class_weights[targets]).sum()


class Loss(nn.Module):
    """A loss on logits and targets.

    Args:
        config: which.
        class_weights: weight of each class, or None.
        own: the module that ``_target_`` names, already built; it gives the mean over images, or a value for each.
    """

    def __init__(
        self, config: LossConfig, class_weights: Float[Tensor, " class"] | None = None, own: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.config, self.own = config, own
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(self, logits: Float[Tensor, "batch class"], targets: Shaped[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        """Computes the loss of a batch.

        Args:
            logits: of every class.
            targets: int64[batch], position of each image's class; or float[batch, class], shares that sum to 1.

        Returns:
            A scalar: the weighted mean over images.
        """
        if self.own is None:
            return classification_loss(logits, targets, self.config, self.class_weights)
        value: Tensor = self.own(logits, targets)
        return value if value.ndim == 0 else value.sum() / self.weight(targets)

    def weight(self, targets: Shaped[Tensor, "batch ..."]) -> Float[Tensor, ""]:
        """The weight of a batch in an epoch's loss, and of a process's share in the batch's.

        Args:
            targets: int64[batch], or float[batch, class].

        Returns:
            A scalar: see ``loss_weight``.
        """
        return loss_weight(targets, self.class_weights)


def build_loss(
    config: LossConfig, n_classes: int, class_weights: Float[Tensor, " class"] | None, *, soft: bool = False
) -> Loss:
    """Builds the loss of a config. A user's loss gets the arguments that its signature names, and is tried once.

    Args:
        config: which loss; ``class_weights`` and ``label_smoothing`` are passed on to it.
        n_classes: number of classes.
        class_weights: weight of each class, or None.
        soft: targets will be shares of several classes.

    Returns:
        The loss, a module without parameters.

    Raises:
        ConfigError: a user's loss fails, can't take what is asked of it, or gives something else than a loss.
    """
    if config._target_ is None:
        return Loss(config, class_weights)
    target = str(config._target_)
    parameters = parameters_of(find_target("loss", target))
    weighted = next((name for name in WEIGHT_PARAMETERS if name in parameters), None)
    given: dict[str, Any] = {}
    if config.focal_gamma:
        raise ConfigError(
            [f"loss.focal_gamma: {config.focal_gamma:g}, which {target} doesn't read; see loss.arguments"]
        )
    if class_weights is not None:
        if weighted is None:
            raise ConfigError([f"loss.class_weights: {target} has no parameter weight or class_weights to take them"])
        given[weighted] = class_weights
    if config.label_smoothing:
        if "label_smoothing" not in parameters:
            raise ConfigError([f"loss.label_smoothing: {target} has no such parameter; set it to 0"])
        given["label_smoothing"] = config.label_smoothing
    own = build_for_classes("loss", loss_node(config), n_classes, **given)
    if not isinstance(own, nn.Module):
        raise ConfigError([f"loss._target_: {target} made a {type(own).__name__}; expected a torch.nn.Module"])
    if any(True for _ in own.parameters()):
        raise ConfigError([f"loss._target_: {target} has parameters of its own, which no optimizer here would train"])
    targets = torch.arange(4) % n_classes
    _try(own, target, n_classes, targets)
    if soft:
        try:
            _try(own, target, n_classes, nnf.one_hot(targets, n_classes).float())
        except ConfigError as error:
            raise ConfigError(
                [
                    f"augment.batch: mixes classes, and the loss takes no targets float[batch, class]: {error.problems[0]}"
                ]
            ) from error
    return Loss(config, class_weights, own)


def _try(own: nn.Module, target: str, n_classes: int, targets: Int64[Tensor, " batch"] | Tensor) -> None:
    """Compute the loss of random logits once.

    Raises:
        ConfigError: it fails, or isn't a finite loss with a gradient.
    """
    logits = torch.randn(len(targets), n_classes, generator=torch.Generator().manual_seed(0)).requires_grad_()
    state = {name: value.clone() for name, value in own.state_dict().items()}
    try:
        value = own(logits, targets)
    except Exception as error:  # a user's loss may fail in any way
        kind = f"{str(targets.dtype).removeprefix('torch.')}{list(targets.shape)}"
        raise ConfigError(
            [
                f"loss._target_: {target} fails on logits float{list(logits.shape)} and targets {kind}: {cause_text(error)}"
            ]
        ) from error
    finally:
        own.load_state_dict(state)
    if not isinstance(value, Tensor) or value.shape not in ((), (len(targets),)) or not value.requires_grad:
        given = f"{value.dtype}{list(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"
        without = " without a gradient" if isinstance(value, Tensor) and not value.requires_grad else ""
        raise ConfigError(
            [
                f"loss._target_: {target} gives {given}{without}; expected the mean of images, or float[batch], with gradients"
            ]
        )
    if not bool(value.isfinite().all()):
        raise ConfigError([f"loss._target_: {target} gives {value.tolist()} for ordinary logits; expected numbers"])
