"""The protocol of an image source: any class with two methods, named by ``data.source._target_``.

A source is built from its ``_target_`` node in each process that reads (Ray's workers, training processes, a later
``raylight evaluate``), and read by several threads at a time.
"""

from collections.abc import Iterator
from typing import Any, Protocol

import pyarrow as pa

from raylight.data.names import SPLITS, is_missing
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
        if is_missing(key) or is_missing(label):
            raise DataError(
                f"data.source: {target}.entries(): row {number} has no {'key' if is_missing(key) else 'label'}"
            )
        if str(key) in seen:
            raise DataError(f"data.source: {target}.entries(): row {number} has the key {key!r} of an earlier row")
        if split and str(split).casefold() not in SPLITS:
            raise DataError(
                f"data.source: {target}.entries(): row {number} has split={split!r}; expected train, val, test or nothing"
            )
        seen.add(str(key))
        yield {**row, "key": str(key), "label": str(label), "split": SPLITS[str(split).casefold()] if split else None}
