"""Arithmetic on image sizes, for the check of a config; imports nothing heavy."""

from collections.abc import Sequence
from typing import Any

from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError

Size = int | tuple[int, int]
"""Height and width in pixels: one number where they are alike."""


def read_size(value: Any) -> Size:
    """Reads ``model.image_size``.

    Args:
        value: a whole number, or two of them: height and width.

    Returns:
        The size, in pixels.

    Raises:
        ConfigError: it is neither.

    Example:
        >>> read_size([240, 320]), read_size([224, 224])
        ((240, 320), 224)
    """
    sides = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value, value]
    if len(sides) != 2 or any(type(side) is not int for side in sides):
        raise ConfigError([f"model.image_size: {value!r} is neither a whole number nor [HEIGHT, WIDTH]"])
    height, width = sides
    return height if height == width else (height, width)


def height_width(size: Size) -> tuple[int, int]:
    """The height and width of a size, in pixels."""
    return size if isinstance(size, tuple) else (size, size)


def scaled_size(size: Size, shorter: int) -> tuple[int, int]:
    """Scales a size so that its shorter side has a certain length.

    Args:
        size: height and width, in pixels.
        shorter: length of the shorter side, in pixels.

    Returns:
        Height and width, in pixels.

    Example:
        >>> scaled_size((240, 320), 120)
        (120, 160)
    """
    height, width = height_width(size)
    return round(height * shorter / min(height, width)), round(width * shorter / min(height, width))


def size_text(size: Size) -> str:
    """A size as text for messages, such as ``224`` or ``240 x 320``."""
    return str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}"


_TORCHVISION_SMALLEST = {"alexnet": 63, "inception_v3": 75}


def smallest_image_size(model: ModelConfig) -> int:
    """The smallest height and width of the input for which the last feature map isn't empty, in pixels.

    A block of a convnet is a 3x3 convolution and a 2x2 pooling. Classifiers of torchvision and timm halve their input five
    times, which needs 32 pixels; those that need more are listed. For a network of the user's, this isn't known.

    Args:
        model: the settings of the network.

    Returns:
        Pixels.
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
    """The height (or width) of a convnet's last feature map.

    Args:
        model: the settings of the network.
        size: height (or width) of the image, in pixels.

    Returns:
        Number of rows (or columns).
    """
    for _ in model.channels:
        size = (size - (2 if model.padding == "valid" else 0)) // 2
    return size
