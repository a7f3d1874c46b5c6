"""Decoding JPEG files at a scale, and resizing their pixels, by SIMD code where the platform has some.

Not here: reading the header (``jpeg_header``), other formats (``image``).
"""

import importlib.util
import math
import threading
from typing import Any, Final

import numpy as np
from jaxtyping import UInt8

from raylight.data.decode.jpeg_header import JpegHeader, read_jpeg_header
from raylight.data.decode.spec import SUPPORT, Box, DecodeSpec, check_size
from raylight.errors import BadImageError

RESIZER: Final = "cykooz" if importlib.util.find_spec("cykooz_resizer") else "pillow"
"""What resizes JPEG images: cykooz-resizer (SIMD code) where it exists for the platform, else Pillow, which is much slower.

Both apply the same filter, but rounding differs by up to 1 of 255, so the name is part of cache keys.
"""

MAX_SCANNED: Final = 2_000_000_000
"""Maximum of pixels times scans of a progressive JPEG: encoders write about ten scans, each a pass over the image."""

Copies = dict[tuple[int, int, int, int], Any]
"""Parts of an image as the resizer wants them, by their first and last columns and rows."""

_thread = threading.local()


class JpegFile:
    """A JPEG file, decoded when it is first resized, and again only for a size that needs another scale.

    Attributes:
        header: the segments before the image.
    """

    def __init__(self, data: bytes) -> None:
        """Reads the header.

        Args:
            data: the content of the file.

        Raises:
            BadImageError: the header is damaged; the message is the reason.
        """
        self.header = read_jpeg_header(data)
        self._data = data
        self._scale: tuple[int, bool] | None = None
        self._decoded: UInt8[np.ndarray, "height width channel"] = np.empty((0, 0, 0), np.uint8)
        self._copies: Copies = {}

    def resized(self, spec: DecodeSpec) -> UInt8[np.ndarray, "rows columns channel"]:
        """Decodes and resizes the image, as it is stored.

        Args:
            spec: the shape of the result.

        Returns:
            Grey or RGB, 0 to 255.

        Raises:
            BadImageError: the file is damaged, or too large for this size; the message is the reason.
        """
        header = self.header
        scale = _jpeg_scale(header, spec)
        factor = scale[0]
        check_size(header.width, header.height, 9 / factor**2 + (9 if header.multiple_scans else 0))
        if scale != self._scale:
            self._decoded, self._scale, self._copies = _decode_jpeg(self._data, header, *scale), scale, {}
        box, shape = spec.box(header.width / factor, header.height / factor), spec.shape(header.width, header.height)
        return resize(self._decoded, box, shape, spec, self._copies)


def _decode_jpeg(
    data: bytes, header: JpegHeader, factor: int, fast_upsampling: bool
) -> UInt8[np.ndarray, "height width channel"]:
    import simplejpeg

    if header.progressive and (scans := data.count(b"\xff\xda")) * header.width * header.height > MAX_SCANNED:
        raise BadImageError(f"a progressive JPEG of {scans} scans of {header.width} x {header.height} pixels")
    if header.components not in (1, 3, 4):
        raise BadImageError(f"a JPEG with {header.components} channels; expected 1, 3 or 4")
    if header.unknown_jfif_offset is not None:
        # libjpeg's warning says nothing about the pixels, and would hide others.
        data = b"".join((data[: header.unknown_jfif_offset], b"\x01", data[header.unknown_jfif_offset + 1 :]))
    height, width = -(-header.height // factor), -(-header.width // factor)
    try:
        pixels: UInt8[np.ndarray, "height width channel"] = simplejpeg.decode_jpeg(
            data,
            colorspace={1: "GRAY", 3: "RGB", 4: "CMYK"}[header.components],
            fastupsample=fast_upsampling,
            min_height=height,
            min_width=width,
            strict=True,
        )
    except ValueError as error:
        raise BadImageError(f"the JPEG is damaged or cut off: {error}") from error
    if pixels.shape[:2] != (height, width):
        raise BadImageError(f"the JPEG's header contradicts itself: {header.width} x {header.height} pixels")
    return _cmyk_to_rgb(pixels) if header.components == 4 else pixels


def _jpeg_scale(header: JpegHeader, spec: DecodeSpec) -> tuple[int, bool]:
    """Returns how a JPEG file is decoded: reduced by which factor, and whether chroma is upsampled without interpolation.

    The factor is the largest of 8, 4, 2, 1 by which the image can be reduced while decoding and still be large enough;
    libjpeg-turbo has SIMD code for these, others cost more than they save. Interpolating chroma is wasted effort if the image
    is downscaled afterwards.
    """
    if spec.jpeg_size is not None:
        spec = DecodeSpec(spec.jpeg_size, "stretch")
    factor = next(
        factor for factor in (8, 4, 2, 1) if factor == 1 or spec.downscales(header.width, header.height, factor)
    )
    return factor, spec.downscales(header.width - 1, header.height - 1, 1)


def _cmyk_to_rgb(pixels: UInt8[np.ndarray, "height width 4"]) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image

    height, width, _ = pixels.shape
    return np.asarray(Image.frombuffer("CMYK", (width, height), pixels, "raw", "CMYK;I", 0, 1).convert("RGB"))


def resize(
    pixels: UInt8[np.ndarray, "height width channel"],
    box: Box,
    shape: tuple[int, int],
    spec: DecodeSpec,
    copies: Copies | None = None,
) -> UInt8[np.ndarray, "rows columns channel"]:
    """Resizes a part of an image, as if the whole image were resized, then cropped: the filter uses pixels beyond the box.

    Args:
        pixels: grey (1 channel) or RGB, 0 to 255.
        box: the part to resize, in pixels.
        shape: height and width of the result, in pixels.
        spec: has the interpolation.
        copies: of parts of the same pixels, made for other sizes; the one made here is added.

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
    kind, channels = PixelType.U8 if pixels.shape[2] == 1 else PixelType.U8x3, pixels.shape[2]
    copies = {} if copies is None else copies
    part = (x.start, x.stop, y.start, y.stop)
    if part not in copies:
        copies[part] = ImageData(x.stop - x.start, y.stop - y.start, kind, pixels[y, x].tobytes())
    source, target = copies[part], ImageData(columns, rows, kind)
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
