"""Solved heads (linear probes): logistic regression on features that are computed once, instead of epochs of steps towards it.

Leaves out how features are computed (``training.features``).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from raylight.data.samples import Samples
from raylight.models.stages import StagedNetwork

STRENGTHS = tuple(10.0**power for power in range(-6, 2))
"""Candidates of the inverse penalty (scikit-learn's ``C``), for features of unit variance."""
_BATCH = 256
_SOLVED = {"tol": 1e-8, "max_iter": 10_000}
"""Largest gradient of the mean loss at which L-BFGS stops: at scikit-learn's 1e-4, probabilities of weakly penalised heads are
still off by up to 0.2 (``experiments/rank``)."""
_SEARCHED = {"tol": 1e-5, "max_iter": 10_000}
"""While the penalty is chosen: half the steps, with probabilities within 0.001 of the optimum's."""
FEW = 100
"""Validation images below which the penalty is chosen by cross-validation on the training images."""


@dataclass(frozen=True)
class SolvedHead:
    """A linear head at its optimum.

    Attributes:
        weight: of each feature for each class.
        bias: of each class.
        strength: the inverse penalty that was chosen.
        loss: cross-entropy in nats that it was chosen by, on images that weren't fitted.
    """

    weight: Float[np.ndarray, "class feature"]
    bias: Float[np.ndarray, " class"]
    strength: float
    loss: float


def solve_head(
    features: Float[np.ndarray, "row feature"],
    targets: Int64[np.ndarray, " row"],
    held_out: tuple[Float[np.ndarray, "other feature"], Int64[np.ndarray, " other"]],
    n_classes: int,
    *,
    balanced: bool = False,
    groups: Int64[np.ndarray, " row"] | None = None,
) -> SolvedHead:
    """Multinomial logistic regression with an L2 penalty, solved to its optimum by L-BFGS (scikit-learn).

    The penalty is the one with the lowest cross-entropy on held-out images, or in five folds of the training images where fewer
    than ``FEW`` are held out. Images alike on both sides of a fold would make hardly any penalty look best.

    Args:
        features: of the training images or of their views.
        targets: class of each row.
        held_out: features and classes of the validation images; may be empty.
        n_classes: number of classes; each has training images.
        balanced: weigh classes by inverse frequency.
        groups: number of each row's group, which stays together in a fold: views of an image, images of a patient or of the
            same picture. None: each row is a group of its own.

    Returns:
        The head, for features as they are given.

    Raises:
        ValueError: a class has no training image.

    Example:
        >>> features, targets = np.array([[0.0], [1.0], [3.0], [4.0]] * 5), np.array([0, 0, 1, 1] * 5)
        >>> solved = solve_head(features, targets, (features[:0], targets[:0]), n_classes=2)
        >>> logits = np.array([[1.9], [2.1]]) @ solved.weight.T + solved.bias  # the classes meet at 2
        >>> logits.argmax(axis=1)
        array([0, 1])
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    if len(np.unique(targets)) < n_classes:
        raise ValueError("a class has no training image")
    mean, scale = features.mean(0, dtype=np.float64), features.std(0, dtype=np.float64)
    scale[scale < 1e-12] = 1.0
    train, val = (features - mean) / scale, (held_out[0] - mean) / scale
    parts = [(train, targets, val, held_out[1])]
    if len(val) < FEW:
        alone = np.arange(len(targets))
        cut = _folds(targets, alone if groups is None else groups, n_classes)
        if not cut and not len(val):  # a class of one group: alike images on both sides are better than no choice
            cut = _folds(targets, alone, n_classes)
        parts = [(train[seen], targets[seen], train[unseen], targets[unseen]) for seen, unseen in cut] or parts
    labels = np.arange(n_classes)
    solvers = [
        LogisticRegression(warm_start=True, class_weight="balanced" if balanced else None, **_SEARCHED) for _ in parts
    ]
    best = (np.inf, STRENGTHS[0])
    for strength in STRENGTHS:
        losses = []
        for solver, (seen, known, unseen, truth) in zip(solvers, parts, strict=True):
            solver.set_params(C=strength).fit(seen, known)
            losses.append(log_loss(truth, solver.predict_proba(unseen), labels=labels) if len(truth) else np.nan)
        loss = float(np.mean(losses))
        if loss < best[0]:
            best = (loss, strength)
    final = LogisticRegression(C=best[1], class_weight=solvers[0].class_weight, **_SOLVED)
    final.fit(train, targets)
    weight, bias = final.coef_, final.intercept_
    if n_classes == 2:  # scikit-learn gives two classes one logit
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    weight = weight / scale
    return SolvedHead(weight, bias - weight @ mean, best[1], best[0])


def _folds(
    targets: Int64[np.ndarray, " row"], groups: Int64[np.ndarray, " row"], n_classes: int
) -> list[tuple[Int64[np.ndarray, " seen"], Int64[np.ndarray, " unseen"]]]:
    """Rows to fit and to judge on in each fold that leaves all classes to be fitted; none where a class has one group."""
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(5, *(len(np.unique(groups[targets == label])) for label in range(n_classes)))
    if folds < 2:
        return []
    cut = StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(targets, targets, groups)
    return [(seen, unseen) for seen, unseen in cut if len(unseen) and len(np.unique(targets[seen])) == n_classes]


def linear_head(network: StagedNetwork) -> nn.Linear | nn.Conv2d | None:
    """The layer that gives the logits, linearly.

    Args:
        network: any network.

    Returns:
        A linear layer, or a convolution of 1 x 1 pixels whose outputs are only averaged (SqueezeNet's): a linear layer on
        the averages of its inputs. None where the last layer with parameters is of another kind.
    """
    modules = [
        module
        for position in range(network.head_start, len(network.stage_names))
        for module in network.stage(position).modules()
        if not any(True for _ in module.children())
    ]
    places = [place for place, module in enumerate(modules) if any(True for _ in module.parameters())]
    if not network.sequential or not places:
        return None
    last, after = modules[places[-1]], modules[places[-1] + 1 :]
    if isinstance(last, nn.Conv2d):
        averaged = all(isinstance(module, nn.Identity | nn.AdaptiveAvgPool2d | nn.Flatten) for module in after)
        pooled = any(isinstance(module, nn.AdaptiveAvgPool2d) for module in after)
        return last if last.kernel_size == (1, 1) and averaged and pooled else None
    return last if isinstance(last, nn.Linear) else None


@torch.no_grad()
def head_inputs(network: StagedNetwork, samples: Samples, stage: int) -> Float[np.ndarray, "row feature"]:
    """The inputs of the network's last linear layer, averaged over positions where it is a convolution.

    Args:
        network: with a linear head; evaluated in eval mode, and left in the mode that it had.
        samples: features that enter a stage, with or without several views per image.
        stage: position of that stage.

    Returns:
        A row per image, or per view of each image in turn.
    """
    head = linear_head(network)
    assert head is not None
    rows = samples.rows.ravel()
    seen = np.empty((len(rows), head.weight.shape[1]), np.float32)
    chunk = slice(0, 0)

    def keep(_: nn.Module, values: tuple[Tensor, ...]) -> None:
        inputs = values[0].float()
        seen[chunk] = (inputs.mean((2, 3)) if inputs.ndim == 4 else inputs).cpu().numpy()

    hook = head.register_forward_pre_hook(keep)
    training = network.training
    network.eval()
    try:
        for start in range(0, len(rows), _BATCH):
            chunk = slice(start, start + _BATCH)
            network.run(torch.from_numpy(np.array(samples.store[rows[chunk]])).to(head.weight.device), stage, None)
    finally:
        hook.remove()
        network.train(training)
    return seen


def reset_head(network: StagedNetwork, seed: int) -> None:
    """Gives all layers of the head random weights, as PyTorch initialises them.

    Args:
        network: changed in place.
        seed: of the weights; torch's generator is left as it was.
    """
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        for position in range(network.head_start, len(network.stage_names)):
            for module in network.stage(position).modules():
                if isinstance(module, nn.Linear | nn.Conv2d):
                    module.reset_parameters()


@torch.no_grad()
def set_head(network: StagedNetwork, solved: SolvedHead) -> None:
    """Gives a solved head's weights to the network's last linear layer.

    A layer with one output gets the second class's logit minus the first's.

    Args:
        network: with a linear head, changed in place.
        solved: with as many features as the head has inputs.
    """
    head = linear_head(network)
    assert head is not None
    weight, bias = torch.from_numpy(solved.weight), torch.from_numpy(solved.bias)
    if len(head.weight) == 1:
        weight, bias = weight[1:] - weight[:1], bias[1:] - bias[:1]
    head.weight.copy_(weight.reshape(head.weight.shape))
    if head.bias is not None:
        head.bias.copy_(bias)
