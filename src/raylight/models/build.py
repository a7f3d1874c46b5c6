"""From a model's config to a network with its weights, ready to train."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError, WeightsError
from raylight.models.depthwise import speed_up_backward
from raylight.models.families.convnet import build_convnet
from raylight.models.families.own import build_own
from raylight.models.families.timm import build_timm
from raylight.models.families.torchvision import build_torchvision
from raylight.models.stages import StagedNetwork
from raylight.models.weights import load_state, read_state


def build_network(model: ModelConfig, n_classes: int) -> StagedNetwork:
    """Builds a network, with random weights where ``model.weights`` gives none.

    Args:
        model: the settings of the network.
        n_classes: number of classes in the data.

    Returns:
        The network in training mode, with an output per class, or a single one for a sigmoid head.

    Raises:
        ConfigError: no such network, or a sigmoid head for other than two classes.
        WeightsError: ``model.weights`` can't be loaded or doesn't fit.
    """
    if model.head == "sigmoid" and n_classes != 2:
        raise ConfigError(
            [f"model.head: 'sigmoid' distinguishes two classes, but the data has {n_classes}; use model.head=softmax"]
        )
    n_outputs = 1 if model.head == "sigmoid" else n_classes
    build = {"torchvision": build_torchvision, "timm": build_timm, "own": build_own}.get(model.family, _convnet)
    network = build(model, n_outputs)
    speed_up_backward(network.network)
    return network


def class_logits(logits: Float[Tensor, "batch output"]) -> Float[Tensor, "batch class"]:
    """Computes a logit per class: the single output z of a sigmoid head becomes [0, z], whose softmax is [1 - p, p].

    Args:
        logits: the outputs of a network.

    Returns:
        Two columns for a sigmoid head; else the logits themselves.

    Example:
        >>> class_logits(torch.tensor([[2.0]])).tolist()
        [[0.0, 2.0]]
    """
    if logits.shape[1] > 1:
        return logits
    return torch.cat([torch.zeros_like(logits), logits], dim=1)


def class_probabilities(logits: Float[np.ndarray, "image output"]) -> Float[np.ndarray, "image class"]:
    """Computes the probability of each class, in float64, so that rows sum to 1 to the last digit that a table shows.

    Args:
        logits: the outputs of a network.

    Returns:
        Probabilities, 0 to 1.

    Example:
        >>> class_probabilities(np.array([[0.0]], np.float32))
        array([[0.5, 0.5]])
    """
    double = class_logits(torch.from_numpy(logits.astype(np.float64)))
    probabilities: Float[np.ndarray, "image class"] = double.softmax(dim=1).numpy()
    return probabilities


def _convnet(model: ModelConfig, n_outputs: int) -> StagedNetwork:
    network = build_convnet(model, n_outputs)
    if model.weights == "DEFAULT":
        raise WeightsError(
            f"model.weights=DEFAULT: there are no published weights for {model.name}; "
            "use model.weights=null or model.weights=/path/to/state_dict.pt"
        )
    if model.weights is not None:
        head = tuple(network.stage_names[network.head_start :])
        load_state(network.network, read_state(model.weights), head, source=model.weights)
    return network
