"""The protocol of an image source: any class with two methods, named by ``data.source._target_``.

A source is built from its ``_target_`` node in each process that reads (Ray's workers, training processes, a later
``raylight evaluate``), and read by several threads at a time.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from raylight.config.uris import is_uri
from raylight.data.names import SPLITS
from raylight.errors import DataError

COLUMNS = ("key", "label", "group", "split", "bytes", "modified")
"""Columns of a source's table that Raylight uses; all others are kept as metadata of each image."""


class ImageSource(Protocol):
    """A source of images."""

    def entries(self) -> pa.Table:
        """Lists the images, one per row.

        Returns:
            A table with the columns ``key`` (text that names the image within the source) and ``label`` (text or whole
            numbers), and where known ``group`` (patient or object), ``split`` (train, val, test or nothing), ``bytes`` and
            ``modified`` (nanoseconds since 1970; an image with that, and ``bytes`` where given, unchanged isn't read again).
            Further columns are metadata.
        """

    def read(self, key: str) -> bytes:
        """Reads an encoded image.

        Args:
            key: one of ``entries``.

        Returns:
            The content of a JPEG, PNG, ... file.

        Raises:
            OSError: it can't be read; the image is quarantined with the error's text as the reason.
        """


def checked_rows(table: Any, target: str) -> Iterator[dict[str, Any]]:
    """Checks the table of a source, row by row.

    Args:
        table: the result of ``entries()``.
        target: name of the source, for messages.

    Yields:
        The values of a row by column; ``key`` and ``label`` are text, ``split`` is train, val, test or ``None``.

    Raises:
        DataError: it isn't such a table; the message names the first row that is wrong.
    """
    if not isinstance(table, pa.Table):
        raise DataError(f"data.source: {target}.entries() returned a {type(table).__name__}; expected a pyarrow.Table")
    missing = [name for name in COLUMNS[:2] if name not in table.column_names]
    if missing:
        raise DataError(
            f"data.source: {target}.entries() has no column {' and no column '.join(missing)}; it has "
            f"{', '.join(table.column_names)}"
        )
    seen: set[str] = set()
    for number, row in enumerate(table.to_pylist()):
        key, label, split = row["key"], row["label"], row.get("split")
        if key in (None, "") or label in (None, ""):
            raise DataError(f"data.source: {target}.entries(): row {number} has no {'label' if key else 'key'}")
        if str(key) in seen:
            raise DataError(f"data.source: {target}.entries(): row {number} has the key {key!r} of an earlier row")
        if split and str(split).casefold() not in SPLITS:
            raise DataError(
                f"data.source: {target}.entries(): row {number} has split={split!r}; expected train, val, test or nothing"
            )
        seen.add(str(key))
        yield {**row, "key": str(key), "label": str(label), "split": SPLITS[str(split).casefold()] if split else None}


def local(root: str) -> Path:
    """The folder or file of this machine that a source reads.

    Args:
        root: ``data.root``.

    Returns:
        Its path, with ``~`` expanded.

    Raises:
        DataError: it is a URI; only folders of images can be remote.
    """
    if is_uri(root):
        raise DataError(
            f"data.root={root}: Parquet files and tar archives are only read from folders of this machine; copy them here, or "
            "mount the bucket. A remote folder of images can be read directly: data=folder"
        )
    return Path(root).expanduser()


def split_of(name: str) -> str | None:
    """The split in the name of a shard, as in ``train-00000-of-00004.parquet`` or ``data/test/0.tar``.

    Args:
        name: path of the shard, relative to the root.

    Returns:
        train, val, test, or ``None`` where the name has none.

    Example:
        >>> split_of("data/validation-00000-of-00001.parquet"), split_of("val/3.tar"), split_of("shard-7.tar")
        ('val', 'val', None)
    """
    *folders, file = name.split("/")
    first = file.split(".")[0].split("-")[0]
    return next((SPLITS[part.casefold()] for part in (first, *reversed(folders)) if part.casefold() in SPLITS), None)
