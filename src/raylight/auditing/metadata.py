"""Metadata of images, for a baseline that never sees the picture: size, format, bytes, brightness, camera.

They come from the index and its thumbnails; only the camera is read from the files' headers. Leaves out how well they predict
the label (``metadata_baseline``).
"""

import io
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from raylight.data.decode.image import FORMATS, pillow_image
from raylight.data.index import Index
from raylight.storage.remote import AnyPath

HEADER_BYTES = 262_144
"""Bytes to read of a file for its EXIF data, which precedes the picture."""

MAKER_TAGS = (0x010F, 0x0110, 0x0131)
"""EXIF tags that name the camera or scanner: Make, Model, Software (JEITA CP-3451)."""


@dataclass(frozen=True, eq=False)
class FileMetadata:
    """A table with a row per usable file.

    Attributes:
        names: of the columns.
        values: numbers; in a column of words, the position of the word in ``words``.
        words: of each column; empty for a column of numbers.
        from_pixels: whether a column is brightness or contrast, computed from the pixels.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, "file column"]
    words: tuple[tuple[str, ...], ...]
    from_pixels: tuple[bool, ...]


def file_metadata(index: Index, makers: Sequence[str] | None = None) -> FileMetadata:
    """Collect the metadata of an index's files.

    Args:
        index: usable files only, with thumbnails.
        makers: camera or scanner of each file; None leaves the column out.
    """
    width, height, size = (np.array(index.column(name), np.float64) for name in ("width", "height", "bytes"))
    brightness, contrast = index.grey_levels
    numbers = {
        "width": width,
        "height": height,
        "aspect ratio": width / height,
        "file size": size,
        "bytes per pixel": size / (width * height),
        "brightness": brightness,
        "contrast": contrast,
    }
    texts: dict[str, Sequence[str]] = {
        "file format": list(index.column("format")),
        "colour mode": list(index.column("mode")),
    }
    if makers is not None:
        texts["camera"] = list(makers)
    names, columns, words = list(numbers), list(numbers.values()), [()] * len(numbers)
    for name, values in texts.items():
        known, codes = np.unique(np.array(values, dtype=str), return_inverse=True)
        names.append(name)
        columns.append(codes.astype(np.float64))
        words.append(tuple(known.tolist()))
    # Rounded to float32, in which trees compare.
    table = np.stack(columns, axis=1).astype(np.float32).astype(np.float64)
    return FileMetadata(tuple(names), table, tuple(words), tuple(name in ("brightness", "contrast") for name in names))


def read_makers(root: AnyPath, paths: Sequence[str], workers: int) -> tuple[str, ...]:
    """Read the camera or scanner of each file from its EXIF data; empty without any.

    Only the beginnings of files are read: some 10,000 files per second.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, workers)) as pool:
        warnings.simplefilter("ignore")  # for all threads; decoding has reported Pillow's warnings already
        return tuple(pool.map(lambda path: _maker(root / path), paths))


def _maker(path: AnyPath) -> str:
    pillow = pillow_image()
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        with pillow.open(io.BytesIO(head), formats=("JPEG", *FORMATS)) as picture:
            block = picture.info.get("exif")
        if not block:
            return ""
        exif = pillow.Exif()
        exif.load(block)
    except Exception:  # damaged EXIF data, or a format that needs the whole file: as without EXIF data
        return ""
    parts = [str(exif.get(tag, "")).strip("\0 ") for tag in MAKER_TAGS]
    return " ".join(dict.fromkeys(part for part in parts if part))
