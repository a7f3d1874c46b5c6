"""Tables as CSV."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO


def csv_rows(file: IO[str]) -> Callable[[Iterable[object]], None]:
    """Makes a function that writes a row of cells into a file.

    Before Python 3.13, the standard writer doesn't quote a carriage return, so readers end the row there; here, all cells of
    such a row are quoted.

    Args:
        file: open for writing.

    Returns:
        The function.
    """
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Iterable[object]) -> None:
        cells = list(row)
        writer = quoted if any(isinstance(cell, str) and "\r" in cell for cell in cells) else plain
        writer.writerow(cells)

    return write


def csv_text(rows: Sequence[Mapping[str, object]], names: Sequence[str] = ()) -> str:
    r"""Formats rows as CSV, with a column per key, in the order in which they first occur.

    Args:
        rows: cells by the name of the column; ``None`` and NaN become empty.
        names: columns that the table has in any case, before all others.

    Returns:
        The table with a header; empty if there are no columns.

    Example:
        >>> csv_text([{"a": 1, "b": None}, {"a": math.nan, "c": "x,y"}])
        'a,b,c\n1,,\n,,"x,y"\n'
    """
    columns = list(dict.fromkeys([*names, *(name for row in rows for name in row)]))
    if not columns:
        return ""
    text = io.StringIO()
    write = csv_rows(text)
    write(columns)
    for row in rows:
        cells = [row.get(name) for name in columns]
        write("" if cell is None or (isinstance(cell, float) and math.isnan(cell)) else cell for cell in cells)
    return text.getvalue()
