"""Resizing the pixels of a JPEG image, by SIMD code where the platform has some."""

import importlib.util
import math
import threading
from typing import Final

import numpy as np
from jaxtyping import UInt8

from raylight.data.decode.spec import SUPPORT, Box, DecodeSpec

RESIZER: Final = "cykooz" if importlib.util.find_spec("cykooz_resizer") else "pillow"
"""What resizes JPEG images: cykooz-resizer (SIMD code) where it exists for the platform, else Pillow, which is much slower.

Both apply the same filter, but rounding differs by up to 1 of 255, so the name is part of cache keys.
"""

_thread = threading.local()


def resize(
    pixels: UInt8[np.ndarray, "height width channel"], box: Box, shape: tuple[int, int], spec: DecodeSpec
) -> UInt8[np.ndarray, "rows columns channel"]:
    """Resizes a part of an image, as if the whole image were resized, then cropped: the filter uses pixels beyond the box.

    Args:
        pixels: grey (1 channel) or RGB, 0 to 255.
        box: the part to resize, in pixels.
        shape: height and width of the result, in pixels.
        spec: has the interpolation.

    Returns:
        Grey or RGB, 0 to 255.
    """
    rows, columns = shape
    if RESIZER == "pillow":
        from PIL import Image

        picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        resized = np.asarray(picture.resize((columns, rows), Image.Resampling[spec.interpolation.upper()], box=box))
        return resized.reshape(rows, columns, -1)
    from cykooz_resizer import CropBox, FilterType, ImageData, PixelType, ResizeAlg, ResizeOptions, Resizer

    left, top, right, bottom = box
    reach = SUPPORT[spec.interpolation]
    x, y = _reach(left, right, pixels.shape[1], columns, reach), _reach(top, bottom, pixels.shape[0], rows, reach)
    window = pixels[y, x]
    height, width, channels = window.shape
    kind = PixelType.U8 if channels == 1 else PixelType.U8x3
    source, target = ImageData(width, height, kind, window.tobytes()), ImageData(columns, rows, kind)
    if not hasattr(_thread, "resizer"):
        _thread.resizer = Resizer()
    _thread.resizer.resize(
        source,
        target,
        ResizeOptions(
            # Catmull-Rom is Keys' cubic with a = -0.5, which Pillow and torchvision's antialiased bicubic use, too.
            ResizeAlg.convolution(FilterType.catmull_rom if spec.interpolation == "bicubic" else FilterType.bilinear),
            use_alpha=False,
            crop_box=CropBox(left - x.start, top - y.start, right - left, bottom - top),
        ),
    )
    return np.frombuffer(target.get_buffer(), np.uint8).reshape(rows, columns, channels)


def _reach(low: float, high: float, length: int, size: int, support: int) -> slice:
    """The range of pixels on one axis that the filter uses to resize ``low`` to ``high`` to ``size`` pixels."""
    margin = math.ceil(support * max((high - low) / size, 1.0)) + 1
    return slice(max(math.floor(low) - margin, 0), min(math.ceil(high) + margin, length))
