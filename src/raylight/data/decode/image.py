"""Decoding the bytes of one image file to uint8[height, width, 3], or rejecting them with a reason.

The result depends on the bytes and the :class:`DecodeSpec` alone. Not here: reading many files
(:mod:`raylight.data.decode.engines`), normalisation and augmentation (after the cache).

How each kind of file is treated:

=========================  =================================================================================
JPEG                       rejected if libjpeg warns. Scaled by 1/2, 1/4 or 1/8 while decoding, as long as
                           the result is large enough.
PNG                        rejected if a chunk's checksum is wrong or a row is missing.
TIFF                       rejected if strips are missing, or a strip's checksum or JPEG data is damaged.
EXIF, XMP orientation      applied.
grey, 1 bit, palette       to three channels.
transparency               composited on white.
16 bits, grey              scaled from the range of the image, its smallest value to its largest, to 0 to 255;
                           inverted where zero means white.
16 bits, colour            the upper 8 bits, which are all that Pillow reads.
HEIC, HEIF                 with the extra ``heic``; the primary image, rotated according to its properties.
DICOM                      with the extra ``medical``; see :mod:`raylight.data.decode.dicom`.
32-bit, signed, floats     rejected: the values of black and white are unknown.
CMYK                       to RGB without a colour profile; inverted in JPEG files, as Adobe writes them.
animations, pages          the first frame or page.
=========================  =================================================================================
"""

import contextlib
import functools
import importlib.util
import io
import re
import warnings
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from jaxtyping import Integer, UInt8

from raylight.data.decode.dicom import BYTES_PER_PIXEL as DICOM_BYTES_PER_PIXEL
from raylight.data.decode.dicom import decode_dicom, is_dicom, read_dicom
from raylight.data.decode.integrity import check_covered, check_png_rows, check_tiff_strips
from raylight.data.decode.jpeg import JpegFile
from raylight.data.decode.jpeg_header import JpegHeader
from raylight.data.decode.signatures import foreign_kind, tiff_kind
from raylight.data.decode.spec import MAX_PIXELS, DecodeSpec, check_size
from raylight.errors import BadImageError

if TYPE_CHECKING:
    from PIL.Image import Image

CODE_VERSION: Final = 5
"""Raised with every change here that changes a pixel; part of every cache key."""

READERS: Final = tuple(name for name in ("pillow_heif", "pydicom") if importlib.util.find_spec(name))
"""The packages of the extras ``heic`` and ``medical`` that are installed; which files are usable depends on them."""

FORMATS: Final = (
    *("AVIF", "BMP", "GIF", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP"),
    *(["HEIF"] if "pillow_heif" in READERS else []),
)
"""Formats that Pillow may open besides JPEG: those with a signature, decoded by compiled code in this process."""

BYTES_PER_PIXEL: Final = {"JPEG2000": 25, "WEBP": 21, "AVIF": 16, "HEIF": 16}
"""Measured peak memory of decoding; 12 for Pillow's other formats."""

_NO_IMAGE: Final = (
    f"not a whole image of an accepted format (JPEG, {', '.join(FORMATS)}{', DICOM' if 'pydicom' in READERS else ''})"
)

_PHOTOMETRIC_TAG: Final = 262
"""Whether zero means white (0) or black (1) in a TIFF (TIFF 6.0)."""

_SAMPLE_FORMAT_TAG: Final = 339
"""Whether a TIFF's samples are unsigned integers (1), signed integers (2), or something else (section 19)."""


_ORIENTATION_TAG: Final = 0x0112
"""EXIF tag with the rotation and mirroring that show the image upright, 1 to 8 (JEITA CP-3451)."""


def decode_image(
    data: bytes, spec: DecodeSpec, out: UInt8[np.ndarray, "height width 3"] | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Decodes, orients and resizes one image file, with an antialiased filter.

    Thread-safe; nearly all of it runs without Python's global lock. Takes at most 1 GB of memory.

    Args:
        data: the content of the file.
        spec: the shape of the result.
        out: array for the pixels; ``None`` makes a new one. Left unchanged if the file is rejected.

    Returns:
        RGB, 0 to 255, of the height and width of ``spec``.

    Raises:
        BadImageError: the file is damaged or not a supported image; the message is the reason.
    """
    return ImageFile(data).pixels(spec, out)


class ImageFile:
    """The content of an image file, from which images of several sizes are made, each as if it were the only one.

    Sizes for which the file is decoded at the same scale share one decoding. JPEG files alone have several scales.
    """

    def __init__(self, data: bytes) -> None:
        """Reads the header of a JPEG file; decodes any other.

        Args:
            data: the content of the file.

        Raises:
            BadImageError: the file is damaged or not a supported image; the message is the reason.
        """
        if not data:
            raise BadImageError("the file is empty")
        self._jpeg = JpegFile(data) if data.startswith(b"\xff\xd8") else None
        if self._jpeg is not None:
            self._orientation = _jpeg_orientation(self._jpeg.header)
        else:
            self._picture, self._orientation = _decode_other(data)

    @property
    def jpeg_header(self) -> JpegHeader | None:
        """The header of a JPEG file; ``None`` for other formats."""
        return self._jpeg.header if self._jpeg is not None else None

    @property
    def upright_size(self) -> tuple[int, int]:
        """Height and width of the whole image, upright, in pixels."""
        stored = self._picture if self._jpeg is None else self._jpeg.header
        return (stored.width, stored.height) if self._orientation >= 5 else (stored.height, stored.width)

    def pixels(
        self, spec: DecodeSpec, out: UInt8[np.ndarray, "height width 3"] | None = None
    ) -> UInt8[np.ndarray, "height width 3"]:
        """Makes an image, upright and resized; see ``decode_image``.

        Args:
            spec: the shape of the image.
            out: array for the pixels; ``None`` makes a new one.

        Returns:
            RGB, 0 to 255.

        Raises:
            BadImageError: the file is damaged, or too large for this size; the message is the reason.
        """
        turned = spec.transposed() if self._orientation >= 5 else spec
        stored = self._jpeg.resized(turned) if self._jpeg is not None else _resize_picture(self._picture, turned)
        if out is None:
            out = np.empty(spec.image_shape, np.uint8)
        upright = _upright(stored, self._orientation)
        height, width, _ = upright.shape
        if (height, width) != out.shape[:2]:
            out[...] = spec.fill
        top, left = (out.shape[0] - height) // 2, (out.shape[1] - width) // 2
        out[top : top + height, left : left + width] = upright  # broadcasts one channel to three
        return out


def _jpeg_orientation(header: JpegHeader) -> int:
    """Orientation in the metadata of a JPEG file: that of EXIF, else of XMP, else 1."""
    for segment in header.metadata:
        if segment.startswith(b"Exif\0\0"):
            exif = pillow_image().Exif()
            with contextlib.suppress(Exception):  # damaged EXIF: viewers, too, show the image as it is stored
                exif.load(segment)
                if (value := exif.get(_ORIENTATION_TAG)) in range(1, 9):
                    return int(value)
        elif xmp := re.match(rb'http://ns.adobe.com/xap/1.0/\0.*?tiff:Orientation(?:="|>)([1-8])', segment, re.DOTALL):
            return int(xmp[1])
    return 1


def _decode_other(data: bytes) -> tuple["Image", int]:
    """An image in mode ``L``, ``RGB`` or ``RGBa``, and its EXIF orientation."""
    if kind := foreign_kind(data, READERS):
        raise BadImageError(f"{_NO_IMAGE}: it is {kind}")
    pillow = pillow_image()
    if is_dicom(data):
        dataset = read_dicom(data)
        check_size(int(dataset.Columns), int(dataset.Rows), DICOM_BYTES_PER_PIXEL)
        return pillow.fromarray(decode_dicom(dataset)), 1
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
            check_size(picture.width, picture.height, BYTES_PER_PIXEL.get(picture.format or "", 12))
            check_covered(picture)
            if picture.format == "PNG":
                with pillow.open(io.BytesIO(data), formats=FORMATS) as again:
                    again.verify()
            elif picture.format == "TIFF":
                check_tiff_strips(data, picture)
                if 2 in getattr(picture, "tag_v2", {}).get(_SAMPLE_FORMAT_TAG, ()):
                    raise BadImageError(
                        f"{tiff_kind(data)}, whose range isn't known; convert to 8 or 16 bits, unsigned"
                    )
            picture.load()
            if picture.format == "PNG":
                check_png_rows(data, picture)
            return _to_8_bits(picture), _orientation(picture)
    except (BadImageError, MemoryError):
        raise
    except pillow.UnidentifiedImageError as error:
        if kind := tiff_kind(data):
            raise BadImageError(
                f"a TIFF that can't be read: {kind}; convert it to RGB or grey, 8 bits per channel"
            ) from error
        raise BadImageError(_NO_IMAGE) from error
    except pillow.DecompressionBombError as error:
        raise BadImageError(f"more than the maximum of {MAX_PIXELS:,} pixels") from error
    except Exception as error:  # on a damaged file, Pillow's decoders may raise anything
        raise BadImageError(f"damaged or cut off: {error or type(error).__name__}") from error


@functools.cache
def pillow_image() -> Any:
    """``PIL.Image`` with support for all ``FORMATS``, and without its warnings, whose causes ``decode_image`` handles."""
    from PIL import Image

    if "HEIF" in FORMATS:
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    return Image


def _to_8_bits(picture: "Image") -> "Image":
    """The image in mode ``L``, ``RGB`` or ``RGBa`` (premultiplied alpha)."""
    from PIL import Image

    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        grey = _scaled_to_8_bits(np.asarray(picture))
        # Pillow inverts images in which zero means white, but only those of up to 8 bits.
        return Image.fromarray(255 - grey if getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == 0 else grey)
    if picture.mode in ("I", "F", "LAB"):
        kind = {"I": "32-bit integer", "F": "floating-point", "LAB": "CIELAB"}[picture.mode]
        raise BadImageError(f"{kind} pixels, whose range isn't known; convert to 8 or 16 bits per channel")
    if picture.has_transparency_data:
        return (picture if picture.mode == "RGBA" else picture.convert("RGBA")).convert("RGBa")
    mode = "L" if picture.mode in ("1", "L") else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _scaled_to_8_bits(grey: Integer[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """Maps the smallest value to 0 and the largest to 255; keeps the upper 8 of 16 bits where there is only one value."""
    # Scanners write 10 to 14 bits into 16, some at the lower end and some with an offset: no fixed 8 bits hold the image.
    low, high = int(grey.min()), int(grey.max())
    if low == high:
        return np.full(grey.shape, high >> 8, np.uint8)
    return np.asarray(np.rint((grey - np.float32(low)) * np.float32(255 / (high - low))), np.uint8)


def _resize_picture(picture: "Image", spec: DecodeSpec) -> UInt8[np.ndarray, "rows columns channel"]:
    from PIL import Image

    rows, columns = spec.shape(picture.width, picture.height)
    small = np.asarray(
        picture.resize(
            (columns, rows),
            Image.Resampling[spec.interpolation.upper()],
            box=spec.box(picture.width, picture.height),
            reducing_gap=3.0,  # reduces by an integer factor first; from 3.0 on hardly distinguishable from one step
        )
    ).reshape(rows, columns, -1)
    if picture.mode != "RGBa":
        return small
    transparency = 255 - small[..., 3:].astype(np.uint16)
    return np.minimum(small[..., :3] + transparency, 255).astype(np.uint8)


def _orientation(picture: "Image") -> int:
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF: viewers, too, show the image as it is stored
        return 1
    return value if value in range(1, 9) else 1


def _upright(
    pixels: UInt8[np.ndarray, "rows columns channel"], orientation: int
) -> UInt8[np.ndarray, "height width channel"]:
    """Applies the EXIF orientation; as if before resizing, except for a shift by a pixel where an odd margin was cut off."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
