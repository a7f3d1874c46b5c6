"""Tables as CSV text."""

import csv
import io
import math
from collections.abc import Mapping, Sequence


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
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        empty = [name for name, value in row.items() if isinstance(value, float) and math.isnan(value)]
        writer.writerow({**row, **dict.fromkeys(empty)})
    return text.getvalue()
