"""The small networks cnn2 to cnn5: one builder, whose settings are in their option files.

A block consists of a convolution, optionally BatchNorm, ReLU, 2x2 max-pooling, and optionally dropout of whole channels; dense
layers follow the blocks. Weights are initialised by PyTorch's defaults.
"""

import math
from collections import OrderedDict

from torch import nn

from raylight.config.rules.pretrained import model_input
from raylight.config.rules.shapes import feature_map_size, height_width, size_text, smallest_image_size
from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError
from raylight.models.stages import StagedNetwork, flat_stages


def build_convnet(model: ModelConfig, n_outputs: int) -> StagedNetwork:
    """Builds a convnet with random weights.

    Args:
        model: channels, padding, batch_norm, conv_dropout, pool, dense, dropout and image_size are used.
        n_outputs: width of the output layer.

    Returns:
        The network, with a stage per layer.

    Raises:
        ConfigError: the image is too small for the blocks.
    """
    smallest, size = smallest_image_size(model), model_input(model).size
    if min(height_width(size)) < smallest:
        raise ConfigError(
            [f"model.image_size: {size_text(size)} is too small for {model.name}; it needs at least {smallest} pixels"]
        )
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    width = 3
    for number, channels in enumerate(model.channels, start=1):
        parts[f"block{number}"] = _block(model, width, channels)
        width = channels
    if model.pool == "average":
        parts["pool"] = nn.AdaptiveAvgPool2d(1)
    else:
        width *= math.prod(feature_map_size(model, side) for side in height_width(size))
    parts["flatten"] = nn.Flatten()
    n_below = len(flat_stages(nn.Sequential(parts)))
    parts.update(dense_layers(width, model.dense, n_outputs, model.dropout))
    network = nn.Sequential(parts)
    return StagedNetwork(network, flat_stages(network), head_start=n_below)


def dense_layers(width: int, dense: list[int], n_outputs: int, dropout: float) -> OrderedDict[str, nn.Module]:
    """Makes dense layers with ReLU and an output layer, each after dropout where there is any.

    Args:
        width: number of input features.
        dense: widths of the hidden layers.
        n_outputs: width of the output layer.
        dropout: probability of dropping a feature, 0 to 1.

    Returns:
        Layers by name, in their order.

    Example:
        >>> list(dense_layers(8, [4], 2, 0.5))
        ['dropout1', 'dense1', 'relu1', 'dropout', 'output']
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for number, features in enumerate(dense, start=1):
        if dropout > 0:
            layers[f"dropout{number}"] = nn.Dropout(dropout)
        layers[f"dense{number}"] = nn.Linear(width, features)
        layers[f"relu{number}"] = nn.ReLU(inplace=True)
        width = features
    if dropout > 0:
        layers["dropout"] = nn.Dropout(dropout)
    layers["output"] = nn.Linear(width, n_outputs)
    return layers


def _block(model: ModelConfig, width: int, channels: int) -> nn.Sequential:
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    # No bias before BatchNorm, which subtracts the mean, and a bias with it.
    layers["conv"] = nn.Conv2d(
        width, channels, kernel_size=3, padding=1 if model.padding == "same" else 0, bias=not model.batch_norm
    )
    if model.batch_norm:
        layers["norm"] = nn.BatchNorm2d(channels)
    layers["relu"] = nn.ReLU(inplace=True)
    layers["pool"] = nn.MaxPool2d(2)
    if model.conv_dropout > 0:
        layers["dropout"] = nn.Dropout2d(model.conv_dropout)
    return nn.Sequential(layers)
