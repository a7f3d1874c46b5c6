"""Any of torchvision's classifiers, by name, with a new head and, if wanted, its published weights.

Detection, segmentation, video and quantised models are left out: torchvision lists them apart from its classifiers.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from raylight.config.rules.pretrained import STATISTICS, model_input, torchvision_models
from raylight.config.rules.shapes import height_width, size_text
from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError
from raylight.models.families.convnet import dense_layers
from raylight.models.stages import StagedNetwork, find_stages, original_names, split_head
from raylight.models.weights import load_state, read_state, torchvision_state

_CONVERTING = ("googlenet", "inception_v3")
"""Their published weights expect pixels of -1 to 1 (as TensorFlow's, which they were converted from)."""

_PROBE_SIZE = 96
"""Image size for finding stages, in pixels; small enough to be fast, large enough that pooling averages something."""


def build_torchvision(model: ModelConfig, n_outputs: int) -> StagedNetwork:
    """Builds a torchvision classifier.

    The last layer, and dropout directly before it, are replaced by ``model.dense`` layers and an output layer with
    ``model.dropout`` before each: this is the head. Auxiliary classifiers are left out.

    Args:
        model: name, weights, image_size, dense and dropout are used.
        n_outputs: width of the output layer.

    Returns:
        The network, undivided if it can't be split.

    Raises:
        ConfigError: torchvision has no classifier of that name, or it can't take such images.
        WeightsError: the weights can't be loaded or don't fit.
    """
    network = _random_network(model)
    output = _output_layer(network)
    head = _replace_head(network, output, model, n_outputs)
    if model.weights is not None:
        published = model.weights == "DEFAULT"
        state = torchvision_state(model.name) if published else original_names(read_state(model.weights), head)
        load_state(network, state, [output], source=f"{model.name}'s {model.weights}")
    return _staged(network, head, model)


def _random_network(model: ModelConfig) -> nn.Module:
    models, shown = torchvision_models(model.name), model_input(model)
    options: dict[str, Any] = {}
    if model.name in _CONVERTING:
        options = {"aux_logits": False, "init_weights": True, "transform_input": False}  # a stage does it instead
    elif model.name.startswith("vit_"):
        if not isinstance(shown.size, int):
            raise ConfigError(
                [
                    f"model.image_size: {model.name} takes square images, not {size_text(shown.size)} pixels; give one number"
                ]
            )
        options = {"image_size": shown.size}
    elif model.name.startswith("maxvit_"):
        options = {"input_size": height_width(shown.size)}
    try:
        network: nn.Module = models.get_model(model.name, weights=None, **options)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise ConfigError(
            [
                f"model.image_size: {model.name} can't take {size_text(shown.size)} pixels ({error}); null chooses the size "
                "that it was made for"
            ]
        ) from error
    return network


def _output_layer(network: nn.Module) -> str:
    layers: list[str] = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    return layers[-1]


def _replace_head(network: nn.Module, output: str, model: ModelConfig, n_outputs: int) -> str:
    """Replaces the output layer by the new head; returns the path of the head's first module."""
    parent_name, _, name = output.rpartition(".")
    parent = network.get_submodule(parent_name)
    siblings = list(parent.named_children())
    position = [sibling for sibling, _ in siblings].index(name)
    old = siblings[position][1]
    first, dropout = output, model.dropout
    before_name, before = siblings[position - 1]
    if position > 0 and isinstance(before, nn.Dropout):
        # torchvision's own dropout is where the new head's would be: it gets the new probability.
        before.p = dropout
        first, dropout = f"{parent_name}.{before_name}".lstrip("."), 0.0
    if isinstance(old, nn.Conv2d):
        new: nn.Module = pointwise_head(old.in_channels, model, n_outputs)
        for sibling, module in siblings[position + 1 :]:
            if isinstance(module, nn.ReLU):  # SqueezeNet clips negative logits, which a single sigmoid needs
                setattr(parent, sibling, nn.Identity())
    else:
        assert isinstance(old, nn.Linear)
        layers = dense_layers(old.in_features, model.dense, n_outputs, model.dropout)
        if dropout == 0.0:
            layers.pop("dropout1" if model.dense else "dropout", None)
        new = layers["output"] if len(layers) == 1 else nn.Sequential(layers)
    setattr(parent, name, new)
    return first


def pointwise_head(channels: int, model: ModelConfig, n_outputs: int) -> nn.Module:
    """Makes a head like SqueezeNet's: the same layers at each position of the feature map, averaged afterwards.

    Args:
        channels: number of channels of the feature map.
        model: dense and dropout are used.
        n_outputs: number of channels of the last convolution.

    Returns:
        The head without the averaging.
    """
    layers: list[nn.Module] = []
    for features in model.dense:
        layers += [nn.Conv2d(channels, features, 1), nn.ReLU(inplace=True), nn.Dropout2d(model.dropout)]
        channels = features
    output = nn.Conv2d(channels, n_outputs, 1)
    return nn.Sequential(*layers, output) if layers else output


class _FromImageNet(nn.Module):
    """Convert images in ImageNet's normalisation to -1 to 1: torchvision's ``transform_input``, as a stage."""

    def forward(self, images: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch 3 height width"]:
        mean, std = STATISTICS["imagenet"]
        channels = [images[:, i : i + 1] * (std[i] / 0.5) + (mean[i] - 0.5) / 0.5 for i in range(3)]
        return torch.cat(channels, 1)


def _staged(network: nn.Module, head: str, model: ModelConfig) -> StagedNetwork:
    shown = model_input(model)
    probe = shown.size if model.name.startswith(("vit_", "maxvit_")) else _PROBE_SIZE
    found = find_stages(network, head, probe)
    if found is not None:
        names, added = found
        if model.name in _CONVERTING and (shown.mean, shown.std) == STATISTICS["imagenet"]:
            names, added = ("transform_input", *names), {"transform_input": _FromImageNet(), **added}
        start = next(i for i, name in enumerate(names) if name == head or name.startswith(f"{head}."))
        return StagedNetwork(network, names, start, added)
    return split_head(network, head, probe) or StagedNetwork.undivided(network)
