"""Names of files, classes and splits: which are meant for images, how they are compared and how they are shown."""

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
    ]
)

SPLIT_NAMES = {
    "train": ("train", "training", "train_set", "training_set"),
    "val": ("val", "valid", "validation", "dev", "val_set", "validation_set"),
    "test": ("test", "testing", "test_set", "testing_set"),
}
SPLITS = {spelling: split for split, spellings in SPLIT_NAMES.items() for spelling in spellings}


def is_image(name: str) -> bool:
    """Whether a file's name ends like an image's that is read."""
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def printable(name: str) -> str:
    r"""The name as it can be written down: bytes that aren't UTF-8 as ``\xe9``."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def on_one_line(name: str | os.PathLike[str]) -> str:
    r"""The name as a log or a terminal shows it harmlessly: what isn't printable, such as a line's end, as ``\n``."""
    text = printable(os.fspath(name))
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def classes(labels: Iterable[str]) -> str:
    """How many classes there are, and their names."""
    labels = sorted(labels)
    return f"{len(labels)} class{'es' if len(labels) != 1 else ''} ({some(labels)})" if labels else "no classes"


def same_name(name: str) -> str:
    """The form in which names are compared: composed as Unicode's NFC has it, and without regard to case.

    macOS hands over ``é`` as two characters, other systems as one.
    """
    return unicodedata.normalize("NFC", name).casefold()


def listed(names: Iterable[str]) -> str:
    """Quoted names in alphabetical order."""
    return ", ".join(repr(name) for name in sorted(names))


def some(names: list[str], most: int = 6) -> str:
    """The first of many names, and how many there are."""
    shown = ", ".join(names[:most])
    return f"{shown}, ... ({len(names):,} in all)" if len(names) > most else shown


def is_utf8(name: str) -> bool:
    """Whether a file name's bytes are valid UTF-8."""
    return printable(name) == name
