"""Reading one file of a data set: facts, thumbnail and, where wanted, pixels, from one reading and one decoding.

Not here: many files, and what is known of them from before (``scan.memory``).
"""

import hashlib
import io
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from raylight.data.cache_files import PixelFile
from raylight.data.decode.dicom import dicom_header, is_dicom, patient_of
from raylight.data.decode.image import FORMATS, READERS, ImageFile, pillow_image
from raylight.data.decode.signatures import uses_12_of_16_bits
from raylight.data.decode.spec import DecodeSpec
from raylight.data.names import printable
from raylight.errors import BadImageError
from raylight.storage.packed import NO_SIZE
from raylight.storage.remote import AnyPath

FACTS = pa.schema(
    [
        ("path", pa.string()),
        ("mtime_ns", pa.int64()),
        ("bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("format", pa.string()),
        ("sha256", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("note", pa.string()),
        ("patient", pa.string()),
    ]
)
"""Columns of a scan. ``width`` and ``height`` are as stored, before any rotation; ``mode`` and ``format`` are Pillow's names;
``status`` is ok or bad; ``reason`` says why a file is bad, ``note`` names a peculiarity of a good one; ``patient`` is a hash
of a DICOM file's patient, keyed with a secret of this machine, and never leaves the cache (see ``index.py``)."""

THUMBNAIL = DecodeSpec(32, "stretch", jpeg_size=224)
"""Thumbnails show the whole image. They depend on its file alone, so that all runs find the same duplicates. A JPEG file is
decoded at the scale of the commonest size of networks, whose pixels then come from the same decoding."""

LARGEST_FILE = 500_000_000
"""Bytes; larger files are rejected without reading them into memory."""

UNKNOWN = -1
"""Size or modification time of a file that has to be read again."""

_PALE = 224
"""15 of 255 of an ink, of black and of transparency together darken white to 225, which is still above this."""
_JPEG_MODES = {1: "L", 3: "RGB", 4: "CMYK"}
"""Pillow's name of each number of channels."""


class Facts(NamedTuple):
    """Facts about one file, in the order of ``FACTS``."""

    path: str
    mtime_ns: int
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    sha256: str | None = None
    status: str = "bad"
    reason: str | None = None
    note: str | None = None
    patient: str | None = None


@dataclass(frozen=True, eq=False)
class ScannedFile:
    """What is known of a file that has been read.

    Attributes:
        facts: what it is, or why it can't be used.
        thumbnail: RGB, 0 to 255; ``None`` for a bad file.
        pixels: the image at the size that was asked for; ``None`` if none was, or the file can't be used at it.
        refused: why a good file can't be used at that size.
    """

    facts: Facts
    thumbnail: UInt8[np.ndarray, "32 32 3"] | None = None
    pixels: UInt8[np.ndarray, "height width 3"] | None = None
    refused: str | None = None

    def stored(self, row: int, pixels: PixelFile) -> "ScannedFile":
        """Puts the pixels, or the reason why there are none, into the file of a cache.

        Args:
            row: of the image.
            pixels: the file.

        Returns:
            What is known besides, which takes less memory.
        """
        if self.pixels is not None:
            pixels.write(row, self.pixels)
        elif self.refused is not None:
            pixels.refuse(row, self.refused)
        return replace(self, pixels=None)


def scan_file(root: AnyPath, path: str, secret: bytes, spec: DecodeSpec | None = None) -> ScannedFile:
    """Reads a file.

    Args:
        root: folder that the path is relative to.
        path: of the file.
        secret: key of the patients' hashes.
        spec: shape of the pixels; ``None`` makes none.

    Returns:
        What is known of the file. One that couldn't be read has no modification time, so it is tried again the next time.
    """
    name = printable(path)
    if name != path:
        return ScannedFile(Facts(name, UNKNOWN, reason="the name isn't valid UTF-8; rename the file"))
    file = root / path
    try:
        status = file.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):
            return ScannedFile(Facts(path, UNKNOWN, reason="not a file"))
        if size > LARGEST_FILE:
            return ScannedFile(Facts(path, mtime_ns, size, reason=f"{size:,} bytes: too large for an image"))
        data = _content(file)
    except FileNotFoundError:
        return ScannedFile(Facts(path, UNKNOWN, reason="no such file"))
    except OSError as error:
        return ScannedFile(Facts(path, UNKNOWN, reason=f"can't be read: {error.strerror or error}"))
    digest = hashlib.sha256(data).hexdigest()
    return scan_content(
        data, Facts(path, mtime_ns if size in (len(data), NO_SIZE) else UNKNOWN, len(data), sha256=digest), secret, spec
    )


def scan_content(data: bytes, facts: Facts, secret: bytes, spec: DecodeSpec | None) -> ScannedFile:
    """Decodes the content of a file.

    Args:
        data: the content.
        facts: what is known of the file without decoding it.
        secret: key of the patients' hashes.
        spec: shape of the pixels; ``None`` makes none.

    Returns:
        What is known of the file.
    """
    try:
        image = ImageFile(data)
        thumbnail = image.pixels(THUMBNAIL)
    except BadImageError as error:
        return ScannedFile(facts._replace(reason=str(error), **_header(data)))
    if (header := image.jpeg_header) is not None:
        facts = facts._replace(
            width=header.width, height=header.height, mode=_JPEG_MODES[header.components], format="JPEG"
        )
    else:
        facts = facts._replace(**_header(data))
        if is_dicom(data):
            facts = facts._replace(patient=patient_of(data, secret))
        if facts.note is None and (thumbnail.max() < 16 or thumbnail.min() > _PALE) and uses_12_of_16_bits(data):
            looks = "nearly black" if thumbnail.max() < 16 else "nearly white"
            facts = facts._replace(note=f"{looks}: only the lower 12 of its 16 bits are used")
    facts = facts._replace(status="ok")
    if spec is None:
        return ScannedFile(facts, thumbnail)
    try:
        return ScannedFile(facts, thumbnail, image.pixels(spec))
    except BadImageError as error:
        return ScannedFile(facts, thumbnail, refused=str(error))


def _content(file: AnyPath) -> bytes:
    if not isinstance(file, Path):
        return file.read_bytes()
    with io.FileIO(file) as unbuffered:
        return unbuffered.readall()


def _header(data: bytes) -> dict[str, Any]:
    """Size, mode, format and note from the header; empty if it can't be read."""
    try:
        if is_dicom(data) and "pydicom" in READERS:
            return dicom_header(data)
        with pillow_image().open(io.BytesIO(data), formats=("JPEG", *FORMATS)) as picture:
            return {
                "width": picture.width,
                "height": picture.height,
                "mode": picture.mode,
                "format": "JPEG" if picture.format == "MPO" else picture.format,
                # Further images in a JPEG file are previews of the first one.
                "note": "only the first of its frames or pages is used"
                if picture.format != "MPO" and getattr(picture, "is_animated", False)
                else None,
            }
    except Exception:  # decoding the file then gives the reason
        return {}
