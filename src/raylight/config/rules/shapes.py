"""Arithmetic on image sizes, for the check of a config; imports nothing heavy."""

from collections.abc import Sequence
from typing import Any

from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError

Size = int | tuple[int, int]
"""Height and width in pixels: one number where they are alike."""


def read_size(value: Any) -> Size:
    """The size that ``model.image_size`` names.

    Args:
        value: a whole number, or two of them: height and width.

    Raises:
        ConfigError: it is neither.
    """
    sides = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
    if len(sides) != 2 or any(type(side) is not int for side in sides):
        raise ConfigError([f"model.image_size: {value!r} is neither a whole number nor [HEIGHT, WIDTH]"])
    height, width = sides
    return height if height == width else (height, width)


def height_width(size: Size) -> tuple[int, int]:
    """Both sides of a size, in pixels."""
    return size if isinstance(size, tuple) else (size, size)


def scaled_size(size: Size, shorter: int) -> tuple[int, int]:
    """Height and width in the same proportion whose shorter side has a length, in pixels."""
    height, width = height_width(size)
    return round(height * shorter / min(height, width)), round(width * shorter / min(height, width))


def size_text(size: Size) -> str:
    """A size in words for messages, such as ``224`` or ``240 x 320``."""
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"


_TORCHVISION_SMALLEST = {"alexnet": 63, "inception_v3": 75}


def smallest_image_size(model: ModelConfig) -> int:
    """The smallest height and width that a model's layers leave something of, in pixels.

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
    """Height (or width) of a convnet's last feature map, in cells, for images of a height (or width) in pixels."""
    for _ in model.channels:
        size = (size - (2 if model.padding == "valid" else 0)) // 2
    return size
