"""Tables as CSV."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO


def csv_rows(file: IO[str]) -> Callable[[Iterable[object]], None]:
    """A function that writes a row of cells into a file.

    Before Python 3.13 the standard writer leaves a carriage return bare, and readers end the row there; a row with one is
    quoted throughout.
    """
    plain = csv.writer(file, lineterminator="\n")
    quoted = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)

    def write(row: Iterable[object]) -> None:
        cells = list(row)
        writer = quoted if any(isinstance(cell, str) and "\r" in cell for cell in cells) else plain
        writer.writerow(cells)

    return write


def csv_text(rows: Sequence[Mapping[str, object]], names: Sequence[str] = ()) -> str:
    r"""Rows as a table: a column per key, in the order of their first mention; None and NaN are empty.

    Args:
        rows: by the names of the columns.
        names: columns that the table has in any case, before all others.

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
