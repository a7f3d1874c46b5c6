"""Arithmetic on image sizes, for the check of a config; imports nothing heavy."""

from raylight.config.schema import ModelConfig

_TORCHVISION_SMALLEST = {"alexnet": 63, "inception_v3": 75}


def smallest_image_size(model: ModelConfig) -> int:
    """The smallest image that a model's layers leave something of, in pixels.

    A convnet's block is a 3x3 convolution and a 2x2 pooling. torchvision's and timm's classifiers halve their
    input five times, which takes 32 pixels; those that need more are listed. A network of the user's is tried.
    """
    if model.family == "own":
        return 1
    if model.family != "convnet":
        return _TORCHVISION_SMALLEST.get(model.name, 32)
    size = 1
    for _ in model.channels:
        size = 2 * size + (2 if model.padding == "valid" else 0)
    return size


def feature_map_size(model: ModelConfig, size: int) -> int:
    """Height and width of a convnet's last feature map, in cells, for images of a size in pixels."""
    for _ in model.channels:
        size = (size - (2 if model.padding == "valid" else 0)) // 2
    return size
