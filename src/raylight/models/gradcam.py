"""Grad-CAM (Selvaraju et al. 2017, arXiv:1610.02391): the parts of an image on which a network's decision is based.

Computes the heat map of a class per image, and how much of it lies at the border. A heat map shows where the evidence came
from, not that it was the right evidence. Not here: drawing it (``report.images``).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from raylight.errors import RunError
from raylight.models.stages import StagedNetwork


def grad_cam(
    network: StagedNetwork,
    images: Float[Tensor, "batch 3 height width"],
    classes: Int[np.ndarray, " batch"] | None = None,
) -> Float[np.ndarray, "batch height width"]:
    """Computes how much each part of an image contributes to the logit of a class, from the last feature map before the head.

    Only the stages above that map are differentiated, so frozen layers cost no more than a prediction. The network
    and the gradients of its parameters are left as they were.

    Args:
        network: any network whose stages run in sequence.
        images: normalised.
        classes: the class whose logit is explained, per image; ``None`` takes the predicted ones.

    Returns:
        Heat from 0 to 1, float32, in the size of the images; the hottest point per image is 1. All 0 where nothing
        supports the class.

    Raises:
        RunError: the network has no feature map before its head (a vision transformer, say).
    """
    with _evaluating(network), torch.no_grad():
        position, features = last_feature_map(network, images)
    with _evaluating(network), torch.enable_grad():
        leaf = features.float().requires_grad_(True)
        logits = network.run(leaf.clone(), position + 1, None)  # a copy, as the next stage may work in place
        wanted = _predicted(logits) if classes is None else torch.as_tensor(classes, device=logits.device).long()
        (gradient,) = torch.autograd.grad(_scores(logits, wanted).sum(), leaf)
    weights = gradient.mean(dim=(2, 3), keepdim=True)
    heat = torch.relu((weights * leaf.detach()).sum(dim=1, keepdim=True))
    heat = torch.nn.functional.interpolate(heat, size=images.shape[2:], mode="bilinear", align_corners=False)[:, 0]
    peak = heat.amax(dim=(1, 2), keepdim=True)
    scaled: Float[np.ndarray, "batch height width"] = torch.where(peak > 0, heat / peak, heat).cpu().numpy()
    return scaled


def last_feature_map(
    network: StagedNetwork, images: Float[Tensor, "batch 3 height width"]
) -> tuple[int, Float[Tensor, "batch channel rows columns"]]:
    """Finds the last stage below the head whose output has a height and a width of more than 1.

    Args:
        network: in eval mode.
        images: normalised.

    Returns:
        The position of the stage, and its output.

    Raises:
        RunError: there is no such stage.
    """
    found: tuple[int, Tensor] | None = None
    values = images
    for position in range(network.head_start if network.sequential else 0):
        values = network.run(values, position, position + 1)
        if values.ndim == 4 and min(values.shape[2:]) > 1:
            found = position, values.detach().clone()
    if found is None:
        raise RunError(
            "Grad-CAM needs a feature map before the classifier head, and this network has none: its layers don't run "
            "in sequence, or their outputs have no height and width."
        )
    return found


def border_share(heat: Float[np.ndarray, "height width"], border: float = 0.15) -> float:
    """Computes the share of the heat that lies in the frame along the edges of an image.

    Evenly spread heat gives ``1 - (1 - 2 * border) ** 2``, 0.51 for the default.

    Args:
        heat: of one image, at least 0 everywhere.
        border: width of the frame as a share of the height and width of the image, 0 to 0.5.

    Returns:
        0 to 1; NaN where there is no heat at all.

    Example:
        >>> round(border_share(np.ones((100, 100))), 2)
        0.51
    """
    height, width = heat.shape
    rows, columns = round(border * height), round(border * width)
    total = float(heat.sum())
    inside = float(heat[rows : height - rows, columns : width - columns].sum())
    return 1 - inside / total if total > 0 else float("nan")


def _predicted(logits: Float[Tensor, "batch output"]) -> Int[Tensor, " batch"]:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)


def _scores(logits: Float[Tensor, "batch output"], classes: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The logit of each image's class; for class 0 of a sigmoid head, the negative of its single output."""
    if logits.shape[1] == 1:
        return torch.where(classes == 1, logits[:, 0], -logits[:, 0])
    return logits.gather(1, classes[:, None])[:, 0]


@contextmanager
def _evaluating(network: StagedNetwork) -> Iterator[None]:
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
