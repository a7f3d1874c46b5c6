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
"""What is read of a file to find its EXIF notes; they stand before the picture."""

MAKER_TAGS = (0x010F, 0x0110, 0x0131)
"""EXIF tags that name the camera or scanner: Make, Model, Software (JEITA CP-3451)."""


@dataclass(frozen=True, eq=False)
class SideFacts:
    """A table with a row per usable file.

    Attributes:
        names: of the columns.
        values: numbers; of a column of words, the position of the word in ``words``.
        words: of each column: its words, or none where it holds numbers.
        shown: whether a column tells of the picture's brightness and contrast, not of the file alone.
    """

    names: tuple[str, ...]
    values: Float[np.ndarray, "file fact"]
    words: tuple[tuple[str, ...], ...]
    shown: tuple[bool, ...]


def side_facts(index: Index, makers: Sequence[str] | None = None) -> SideFacts:
    """The facts of an index's files.

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
    # Rounded to float32's grain, as trees compare in it.
    table = np.stack(columns, axis=1).astype(np.float32).astype(np.float64)
    return SideFacts(tuple(names), table, tuple(words), tuple(name in ("brightness", "contrast") for name in names))


def read_makers(root: AnyPath, paths: Sequence[str], workers: int) -> tuple[str, ...]:
    """Camera or scanner of each file, by its EXIF notes; nothing where it has none.

    Only the beginnings of files are read: some 10,000 per second.
    """
    with warnings.catch_warnings(), ThreadPoolExecutor(max(1, workers)) as pool:
        warnings.simplefilter("ignore")  # for all threads; what Pillow thinks of a file, decoding has said already
        return tuple(pool.map(lambda path: _maker(root / path), paths))


def _maker(path: AnyPath) -> str:
    pillow = pillow_image()
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        with pillow.open(io.BytesIO(head), formats=("JPEG", *FORMATS)) as picture:
            notes = picture.info.get("exif")
        if not notes:
            return ""
        exif = pillow.Exif()
        exif.load(notes)
    except Exception:  # damaged notes, or a format that wants its whole file: no maker is known, as without notes
        return ""
    parts = [str(exif.get(tag, "")).strip("\0 ") for tag in MAKER_TAGS]
    return " ".join(dict.fromkeys(part for part in parts if part))
