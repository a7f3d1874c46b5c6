"""Decoding the bytes of one image file to uint8[height, width, 3], or rejecting them with a reason.

The result depends on the bytes and the :class:`DecodeSpec` alone. Not here: reading many files
(:mod:`raylight.data.decode.engines`), normalisation and augmentation (after the cache).

How each kind of file is treated:

=========================  =================================================================================
JPEG                       rejected if libjpeg warns. Scaled by 1/2, 1/4 or 1/8 while decoding, as long as
                           the result isn't smaller than needed.
PNG                        rejected if a chunk's checksum is wrong or a row is missing.
TIFF                       rejected if strips are missing, or a strip's checksum or JPEG data is damaged.
EXIF, XMP orientation      applied.
grey, 1 bit, palette       to three channels.
transparency               composited on white.
16 bits, grey              scaled from the range of the picture, its smallest value to its largest, to 0 to 255;
                           inverted where white is zero.
16 bits, colour            the upper 8 bits, which are all that Pillow reads.
HEIC, HEIF                 with the extra ``heic``; the primary image, turned as its properties say.
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
from raylight.data.decode.jpeg_header import JpegHeader, read_jpeg_header
from raylight.data.decode.resizing import resize
from raylight.data.decode.signatures import foreign_kind, tiff_kind
from raylight.data.decode.spec import DecodeSpec
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

MAX_PIXELS: Final = 178_956_970
"""Pixels of the largest image that is decoded; Pillow, too, regards larger ones as decompression bombs."""

MAX_BYTES: Final = 1_000_000_000
"""Bytes of memory for one file; an image that needs more is rejected before it is decoded."""

BYTES_PER_PIXEL: Final = {"JPEG2000": 25, "WEBP": 21, "AVIF": 16, "HEIF": 16}
"""Measured peak memory of decoding; 12 for Pillow's other formats."""


MAX_SCANNED: Final = 2_000_000_000
"""Pixels times scans of a progressive JPEG: encoders write about ten scans, each a pass over the image."""


_NO_IMAGE: Final = (
    f"not a whole image of an accepted format (JPEG, {', '.join(FORMATS)}{', DICOM' if 'pydicom' in READERS else ''})"
)

_PHOTOMETRIC_TAG: Final = 262
"""What TIFF's zeros mean (TIFF 6.0): 0 white, 1 black."""

_NUMBERS_TAG: Final = 339
"""Whether TIFF's samples are integers without sign, 1, with sign, 2, or something else (section 19)."""

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
    if not data:
        raise BadImageError("the file is empty")
    if data.startswith(b"\xff\xd8"):
        pixels, orientation = _decode_jpeg(data, spec)
    else:
        pixels, orientation = _decode_other(data, spec)
    if out is None:
        out = np.empty(spec.image_shape, np.uint8)
    upright = _upright(pixels, orientation)
    height, width, _ = upright.shape
    if (height, width) != out.shape[:2]:
        out[...] = spec.fill
    top, left = (out.shape[0] - height) // 2, (out.shape[1] - width) // 2
    out[top : top + height, left : left + width] = upright  # broadcasts one channel to three
    return out


def _decode_jpeg(data: bytes, spec: DecodeSpec) -> tuple[UInt8[np.ndarray, "rows columns channel"], int]:
    import simplejpeg

    header = read_jpeg_header(data)
    orientation = _noted_orientation(header)
    spec = spec.turned() if orientation >= 5 else spec
    factor = _scale_down(header, spec)
    _check_size(header.width, header.height, 9 / factor**2 + (9 if header.multiple_scans else 0))
    if header.progressive and (scans := data.count(b"\xff\xda")) * header.width * header.height > MAX_SCANNED:
        raise BadImageError(f"a progressive JPEG of {scans} scans of {header.width} x {header.height} pixels")
    if header.components not in (1, 3, 4):
        raise BadImageError(f"a JPEG with {header.components} channels; expected 1, 3 or 4")
    if header.unknown_jfif_at is not None:
        # This warning says nothing about the pixels, and would hide others.
        data = b"".join((data[: header.unknown_jfif_at], b"\x01", data[header.unknown_jfif_at + 1 :]))
    height, width = -(-header.height // factor), -(-header.width // factor)
    try:
        pixels: UInt8[np.ndarray, "height width channel"] = simplejpeg.decode_jpeg(
            data,
            colorspace={1: "GRAY", 3: "RGB", 4: "CMYK"}[header.components],
            # Interpolating chroma is wasted effort if the image is reduced afterwards.
            fastupsample=spec.reduces(header.width - 1, header.height - 1, 1),
            min_height=height,
            min_width=width,
            strict=True,
        )
    except ValueError as error:
        raise BadImageError(f"the JPEG is damaged or cut off: {error}") from error
    if pixels.shape[:2] != (height, width):
        raise BadImageError(f"the JPEG's header contradicts itself: {header.width} x {header.height} pixels")
    if header.components == 4:
        pixels = _cmyk_to_rgb(pixels)
    box, shape = spec.box(header.width / factor, header.height / factor), spec.shape(header.width, header.height)
    pixels = resize(pixels, box, shape, spec)
    return pixels, orientation


def _noted_orientation(header: JpegHeader) -> int:
    """Orientation in the metadata of a JPEG file: EXIF's, else XMP's, else 1."""
    for note in header.notes:
        if note.startswith(b"Exif\0\0"):
            exif = pillow_image().Exif()
            with contextlib.suppress(Exception):  # damaged EXIF: shown as it is stored, as viewers do
                exif.load(note)
                if (value := exif.get(_ORIENTATION_TAG)) in range(1, 9):
                    return int(value)
        elif found := re.match(rb'http://ns.adobe.com/xap/1.0/\0.*?tiff:Orientation(?:="|>)([1-8])', note, re.DOTALL):
            return int(found[1])
    return 1


def _scale_down(header: JpegHeader, spec: DecodeSpec) -> int:
    """The largest of 8, 4, 2, 1 by which the image can be reduced without getting smaller than needed.

    libjpeg-turbo has SIMD code for these factors; others cost more than they save.
    """
    return next(factor for factor in (8, 4, 2, 1) if factor == 1 or spec.reduces(header.width, header.height, factor))


def _cmyk_to_rgb(pixels: UInt8[np.ndarray, "height width 4"]) -> UInt8[np.ndarray, "height width 3"]:
    from PIL import Image

    height, width, _ = pixels.shape
    return np.asarray(Image.frombuffer("CMYK", (width, height), pixels, "raw", "CMYK;I", 0, 1).convert("RGB"))


def _decode_other(data: bytes, spec: DecodeSpec) -> tuple[UInt8[np.ndarray, "rows columns channel"], int]:
    if kind := foreign_kind(data, READERS):
        raise BadImageError(f"{_NO_IMAGE}: it is {kind}")
    pillow = pillow_image()
    if is_dicom(data):
        dataset = read_dicom(data)
        _check_size(int(dataset.Columns), int(dataset.Rows), DICOM_BYTES_PER_PIXEL)
        return _resize_picture(pillow.fromarray(decode_dicom(dataset)), spec), 1
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
            _check_size(picture.width, picture.height, BYTES_PER_PIXEL.get(picture.format or "", 12))
            check_covered(picture)
            if picture.format == "PNG":
                with pillow.open(io.BytesIO(data), formats=FORMATS) as again:
                    again.verify()
            elif picture.format == "TIFF":
                check_tiff_strips(data, picture)
                if 2 in getattr(picture, "tag_v2", {}).get(_NUMBERS_TAG, ()):
                    raise BadImageError(
                        f"{tiff_kind(data)}, whose range isn't known; convert to 8 or 16 bits without sign"
                    )
            picture.load()
            if picture.format == "PNG":
                check_png_rows(data, picture)
            orientation = _orientation(picture)
            return _resize_picture(_plain(picture), spec.turned() if orientation >= 5 else spec), orientation
    except (BadImageError, MemoryError):
        raise
    except pillow.UnidentifiedImageError as error:
        if kind := tiff_kind(data):
            raise BadImageError(
                f"a TIFF that can't be read: {kind}; convert it to RGB or grey, 8 bits a channel"
            ) from error
        raise BadImageError(_NO_IMAGE) from error
    except pillow.DecompressionBombError as error:
        raise BadImageError(f"more than the {MAX_PIXELS:,} pixels that are decoded") from error
    except Exception as error:  # Pillow's decoders raise whatever a damaged file makes them run into
        raise BadImageError(f"damaged or cut off: {error or type(error).__name__}") from error


@functools.cache
def pillow_image() -> Any:
    """``PIL.Image``, knowing all of ``FORMATS``, and silent.

    Files that cause its warnings are rejected, or their treatment is documented above.
    """
    from PIL import Image

    if "HEIF" in FORMATS:
        from pillow_heif import register_heif_opener

        register_heif_opener(thumbnails=False)

    warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
    return Image


def _plain(picture: "Image") -> "Image":
    """The image in mode ``L``, ``RGB`` or ``RGBa`` (premultiplied alpha)."""
    from PIL import Image

    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format in ("PNG", "PPM")):
        grey = _scaled(np.asarray(picture))
        # Pillow minds that white is zero in pixels of up to 8 bits alone.
        return Image.fromarray(255 - grey if getattr(picture, "tag_v2", {}).get(_PHOTOMETRIC_TAG) == 0 else grey)
    if picture.mode in ("I", "F", "LAB"):
        kind = {"I": "32-bit integer", "F": "floating-point", "LAB": "CIELAB"}[picture.mode]
        raise BadImageError(f"{kind} pixels, whose range isn't known; convert to 8 or 16 bits a channel")
    if picture.has_transparency_data:
        return (picture if picture.mode == "RGBA" else picture.convert("RGBA")).convert("RGBa")
    mode = "L" if picture.mode in ("1", "L") else "RGB"
    return picture if picture.mode == mode else picture.convert(mode)


def _scaled(grey: Integer[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """From the smallest and largest value to 0 and 255; the upper 8 of 16 bits where there is only one value.

    Scanners write 10 to 14 bits into 16, some at the lower end and some with an offset: no fixed 8 bits hold the picture.
    """
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
            reducing_gap=3.0,  # integer reduction first; from 3.0 on hardly distinguishable from the slow way
        )
    ).reshape(rows, columns, -1)
    if picture.mode != "RGBa":
        return small
    see_through = 255 - small[..., 3:].astype(np.uint16)
    return np.minimum(small[..., :3] + see_through, 255).astype(np.uint8)


def _orientation(picture: "Image") -> int:
    try:
        value = picture.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF doesn't affect the pixels; viewers show the image as stored
        return 1
    return value if value in range(1, 9) else 1


def _upright(
    pixels: UInt8[np.ndarray, "rows columns channel"], orientation: int
) -> UInt8[np.ndarray, "height width channel"]:
    """Applies the EXIF orientation; the same as orienting the picture first, but for a pixel where an odd margin is cut off."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def _check_size(width: int, height: int, bytes_per_pixel: float) -> None:
    if width < 1 or height < 1:
        raise BadImageError(f"no pixels: {width} x {height}")
    limit = min(MAX_PIXELS, int(MAX_BYTES / bytes_per_pixel))
    if width * height > limit:
        raise BadImageError(f"{width} x {height} pixels: more than the {limit:,} that are decoded of its kind")
