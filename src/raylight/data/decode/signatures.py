"""Recognising, by its first bytes, a file that has the name of an image but a format that isn't decoded."""

import io
from collections.abc import Collection

import numpy as np

from raylight.data.decode.dicom import is_dicom
from raylight.installation import install_command

_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (
        0,
        b"version https://git-lfs.github.com/spec/",
        "a Git LFS pointer, not the picture itself; fetch it with: git lfs pull",
    ),
    (0, b"/annex/objects/", "a git-annex pointer, not the picture itself; fetch it with: git annex get"),
    (0, b"%PDF-", "a PDF document; export its pages as images"),
    (0, b"SIMPLE  =", "a FITS file; export it as PNG or JPEG"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file; export its pictures"),
    (0, b"\x93NUMPY", "a NumPy array; export it as PNG"),
    (0, b"\x00\x00\x00\x0cJXL \r\n\x87\n", "a JPEG XL picture; convert it to JPEG or PNG"),
    (0, b"\xff\x0a", "a JPEG XL picture; convert it to JPEG or PNG"),
    (0, b"8BPS", "a Photoshop document; export it as PNG or JPEG"),
    (0, b"\x00\x05\x16\x07", "macOS's metadata of a file (AppleDouble), not the file itself; delete it"),
    (0, b"PK\x03\x04", "a ZIP archive (or an office document); unpack it"),
    (0, b"\x1f\x8b", "a gzip archive; unpack it"),
    (0, b"Rar!", "a RAR archive; unpack it"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it"),
    (0, b"\x00\x00\x01\x00", "a Windows icon; convert it to PNG"),
    (0, b"RIFF", "a RIFF file (sound or video)"),
    (0, b"\x1aE\xdf\xa3", "a Matroska video; extract its frames"),
)
"""Offset of each signature, the signature, and what the file is and what to do about it."""

_TIFF_COLOURS = {
    0: "grey (white is zero)",
    1: "grey",
    2: "RGB",
    3: "a palette",
    4: "a mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIELAB",
    9: "ICC L*a*b*",
    10: "ITU L*a*b*",
    32803: "a camera's colour filters (raw)",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
"""Photometric interpretations (TIFF 6.0 and its supplements)."""

_TIFF_NUMBERS = {
    1: "integers",
    2: "signed integers",
    3: "floating-point numbers",
    5: "complex integers",
    6: "complex numbers",
}
"""Sample formats (TIFF 6.0, section 19)."""

_HEIF_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_MARKUP = ((b"<svg", "an SVG drawing; export it as PNG"), (b"<!doctype html", "a web page"), (b"<html", "a web page"))
_PAGE = ", such as the error of a failed download; download the picture again"


def uses_12_of_16_bits(data: bytes) -> bool:
    """Whether the highest 4 of an image's 16 bits per channel are all zero, although only the upper 8 are decoded.

    Then its colours come out nearly black, CMYK inks nearly white, and transparency of 12 bits nearly white. Grey images are
    scaled from their own range, so they have no such problem.

    Args:
        data: content of a file that can be decoded.

    Returns:
        False for all formats whose range is known by other means.
    """
    from PIL import Image

    if is_dicom(data) or data[4:8] == b"ftyp" or data.startswith((b"\xff\xd8", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")):
        return False  # JPEG 2000 and HEIF are scaled by their own number of bits
    with Image.open(io.BytesIO(data)) as picture:
        bits = (data[24],) if data.startswith(b"\x89PNG") else getattr(picture, "tag_v2", {}).get(258, ())
        if picture.mode.startswith("I") or 16 not in bits:
            return False
        largest = np.asarray(picture).max(axis=(0, 1))
        opaque = picture.mode in ("LA", "RGBA") and largest[-1] == 255
        return bool(np.max(largest[:-1] if opaque else largest) < 16)


def tiff_kind(data: bytes) -> str | None:
    """Describes the pixels of a TIFF.

    Args:
        data: content of the file.

    Returns:
        Such as ``RGB, 3 x 16-bit integers``; ``None`` where the file is no TIFF, or its directory can't be read.
    """
    from PIL import TiffImagePlugin as Tiff

    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return None
    try:
        tags = Tiff.ImageFileDirectory_v2(data[:16] if b"+" in data[:4] else data[:8])
        stream = io.BytesIO(data)
        stream.seek(tags.next)
        tags.load(stream)
        compression, photometric = tags.get(Tiff.COMPRESSION, 1), tags.get(Tiff.PHOTOMETRIC_INTERPRETATION, 0)
        bits, numbers = tags.get(Tiff.BITSPERSAMPLE, (1,)), tags.get(Tiff.SAMPLEFORMAT, (1,))
        extra = tuple(tags.get(Tiff.EXTRASAMPLES, ()))
    except Exception:  # on a damaged directory, Pillow may raise anything
        return None
    if not tags:
        return None
    if compression not in Tiff.COMPRESSION_INFO:
        return f"compressed by an unknown method ({compression})"
    colour = _TIFF_COLOURS.get(photometric, f"colour space {photometric}")
    alpha = sum(kind in (1, 2) for kind in extra)
    others = f" with {'transparency' if alpha else 'further channels'}" if extra else ""
    return f"{colour}{others}, {len(bits)} x {max(bits)}-bit {_TIFF_NUMBERS.get(max(numbers), 'values')}"


def foreign_kind(data: bytes, readers: Collection[str] = ()) -> str | None:
    """Recognises a file in a format that isn't decoded.

    Args:
        data: content of the file.
        readers: the installed ones of the packages that read further formats.

    Returns:
        What the file is and what to do about it; ``None`` where its format is unknown, or is decoded.

    Example:
        >>> foreign_kind(b"%PDF-1.7 ...")
        'a PDF document; export its pages as images'
    """
    if data[4:8] == b"ftyp":
        brands = data[8 : 8 + min(int.from_bytes(data[:4]), 64)]
        if b"avif" in brands or b"avis" in brands:
            return None
        if any(brand in brands for brand in _HEIF_BRANDS):
            if "pillow_heif" in readers:
                return None
            return f"a HEIC picture (an iPhone's default); read it with: {install_command('heic')}"
        return "a video or an image of the MP4 family; extract its frames"
    if is_dicom(data):
        return None if "pydicom" in readers else f"a DICOM file; read it with: {install_command('medical')}"
    for start, signature, kind in _SIGNATURES:
        if data[start : start + len(signature)] == signature and not (signature == b"RIFF" and data[8:12] == b"WEBP"):
            return kind
    beginning = data[:1024].removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if beginning.startswith(b"<"):
        kind = next((kind for mark, kind in _MARKUP if mark in beginning), "an XML document")
        return kind + _PAGE if kind == "a web page" else kind
    if beginning.startswith((b"{", b"[")):
        return "a JSON document" + _PAGE
    return None
