"""Names of files, classes, groups and splits: recognising, comparing and displaying them."""

import math
import os
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".bmp",
        ".gif",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".j2k",
        ".avif",
        ".heic",
        ".heif",
        ".dcm",
        ".dicom",
    ]
)

SPLIT_NAMES = {
    "train": ("train", "training", "train_set", "training_set"),
    "val": ("val", "valid", "validation", "dev", "val_set", "validation_set"),
    "test": ("test", "testing", "test_set", "testing_set"),
}
_MISSING = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "null"})
"""What spreadsheets and pandas write for a missing value."""

SPLITS = {spelling: split for split, spellings in SPLIT_NAMES.items() for spelling in spellings}


def is_image(name: str) -> bool:
    """Whether a file name has the suffix of a supported image format."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def is_missing(value: object) -> bool:
    """Whether a typed value is missing: ``None``, empty text or NaN; 0 and False aren't.

    Args:
        value: of a column.

    Returns:
        True if so.

    Example:
        >>> [is_missing(value) for value in (None, "", float("nan"), 0, False, "nan")]
        [True, True, True, False, False, False]
    """
    return value is None or value == "" or (isinstance(value, float) and math.isnan(value))


def says_missing(text: str) -> bool:
    """Whether text without a type, such as a cell of a CSV, stands for a missing value.

    Args:
        text: without spaces around it.

    Returns:
        True if so.

    Example:
        >>> [says_missing(text) for text in ("", "NA", "NaN", "0", "Nadine")]
        [True, True, True, False, False]
    """
    return not text or text.casefold() in _MISSING


def printable(name: str) -> str:
    r"""The name with bytes that aren't UTF-8 escaped, as in ``\xe9``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def single_line(name: str | os.PathLike[str]) -> str:
    r"""Escapes unprintable characters, such as ``\n``, so that a name is safe to show in a log or terminal.

    Args:
        name: of a file or class.

    Returns:
        The name on one line.

    Example:
        >>> print(single_line("two\nlines.png"))
        two\nlines.png
    """
    text = printable(os.fspath(name))
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def describe_classes(labels: Iterable[str]) -> str:
    """The number of classes and their names, for messages.

    Args:
        labels: names of the classes, in any order.

    Returns:
        A phrase without a full stop.

    Example:
        >>> describe_classes({"dog", "cat"})
        '2 classes (cat, dog)'
    """
    labels = sorted(labels)
    return f"{len(labels)} class{'es' if len(labels) != 1 else ''} ({shortened(labels)})" if labels else "no classes"


def normalized_name(name: str) -> str:
    """Normalises a name for comparisons: Unicode's NFC form, case-folded. macOS stores ``é`` as two characters."""
    return unicodedata.normalize("NFC", name).casefold()


def quoted(names: Iterable[str]) -> str:
    """Quoted names in alphabetical order."""
    return ", ".join(repr(name) for name in sorted(names))


def shortened(names: list[str], limit: int = 6) -> str:
    """The first of many names, and their number.

    Args:
        names: in order.
        limit: maximum number of names shown.

    Returns:
        The names, separated by commas.

    Example:
        >>> shortened(["a", "b", "c"], limit=2)
        'a, b, ... (3 in all)'
    """
    shown = ", ".join(names[:limit])
    return f"{shown}, ... ({len(names):,} in all)" if len(names) > limit else shown


def is_utf8(name: str) -> bool:
    """Whether a file name's bytes are valid UTF-8."""
    return printable(name) == name
