"""The subgroup of each image: by a column of the data set, or an attribute of DICOM headers.

Not here: a model's metrics per subgroup (``evaluation.clinical.subgroups``).
"""

import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raylight.data.index import Index
from raylight.data.names import says_missing
from raylight.errors import DataError, did_you_mean

MAX_SUBGROUPS = 30
"""Maximum number of subgroups by one column; more would be too small to evaluate."""

INDEX_COLUMNS = ("format", "mode", "width", "height")
"""Columns of every index that may define subgroups, too."""

YEARS = {"Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}
"""Units of ages in DICOM (PS3.5, 6.2: such as 045Y), in years."""


def subgroups_of(index: Index, columns: Mapping[str, Sequence[Any]]) -> dict[str, list[str | None]]:
    """Finds the subgroup of each file, by each of several columns.

    Args:
        index: files of a data set.
        columns: edges by column name: without edges, each value is a subgroup; with edges, each range between them. A name
            is one of the data set's further columns, of ``INDEX_COLUMNS``, or a keyword of DICOM's data dictionary.

    Returns:
        By column, the name of each file's subgroup; ``None`` where its value isn't known (NaN, ``NA`` and the like).

    Raises:
        DataError: no such column, edges or values (where there are edges) that aren't numbers, or too many subgroups.
    """
    return {name: _names(name, _values(index, name), edges) for name, edges in columns.items()}


def subgroups_of_metadata(
    metadata: Sequence[str | None], columns: Mapping[str, Sequence[Any]]
) -> tuple[dict[str, list[str | None]], list[str]]:
    """Finds the subgroup of each image by its metadata alone.

    Args:
        metadata: JSON objects, as in the index.
        columns: edges by column name, see ``subgroups_of``.

    Returns:
        By column, the name of each image's subgroup; and the columns that no image has.

    Raises:
        DataError: edges or values that aren't numbers, or too many subgroups.
    """
    rows = [json.loads(text) if text else {} for text in metadata]
    there = {name: edges for name, edges in columns.items() if any(name in row for row in rows)}
    found = {name: _names(name, [row.get(name) for row in rows], edges) for name, edges in there.items()}
    return found, [name for name in columns if name not in there]


def _values(index: Index, name: str) -> list[object]:
    rows = [json.loads(text) if text else {} for text in index.column("metadata")]
    known = {column for row in rows for column in row}
    if name in known:
        return [row.get(name) for row in rows]
    if name in INDEX_COLUMNS:
        return list(index.column(name))
    if (index.column("format") == "DICOM").any() and _is_keyword(name):
        return [_dicom_value((index.root / path).read_bytes(), name) for path in index.column("path")]
    candidates = sorted({*known, *INDEX_COLUMNS})
    raise DataError(
        f"report.subgroups.{name}: the data has no column {name!r}; it has {', '.join(candidates)}"
        f"{did_you_mean(name, candidates)}"
    )


def _is_keyword(name: str) -> bool:
    from pydicom.datadict import keyword_dict

    return name in keyword_dict


def _dicom_value(data: bytes, keyword: str) -> object:
    """The value of a DICOM attribute; ``None`` where the file lacks it, or isn't DICOM."""
    from pydicom import dcmread

    if data[128:132] != b"DICM":
        return None
    value = dcmread(io.BytesIO(data), stop_before_pixels=True, specific_tags=[keyword]).get(keyword)
    return None if value is None else str(value)


def _names(column: str, values: Sequence[object], edges: Sequence[float]) -> list[str | None]:
    texts = [None if value is None or says_missing(text := str(value).strip()) else text for value in values]
    if not all(isinstance(edge, int | float) for edge in edges):
        raise DataError(
            f"report.subgroups.{column}={list(edges)}: expected numbers, the edges of ranges, or an empty list, []"
        )
    names = [None if text is None else _range(column, text, sorted(edges)) for text in texts] if edges else texts
    different = {name for name in names if name is not None}
    if len(different) > MAX_SUBGROUPS:
        raise DataError(
            f"report.subgroups.{column}: {len(different)} different values, such as {min(different)!r}; at most "
            f"{MAX_SUBGROUPS} subgroups are possible; give edges of ranges, such as report.subgroups.{column}=[40,60]"
        )
    return names


def _range(column: str, text: str, edges: Sequence[float]) -> str:
    age = re.fullmatch(r"(\d{3})([YMWD])", text)
    try:
        number = int(age[1]) * YEARS[age[2]] if age else float(text)
    except ValueError:
        raise DataError(
            f"report.subgroups.{column}={list(edges)}: {text!r} isn't a number; without edges, [], each value is a subgroup"
        ) from None
    above = int(np.searchsorted(edges, number, side="right"))
    if above == 0:
        return f"below {edges[0]:g}"
    return f"{edges[-1]:g} and above" if above == len(edges) else f"{edges[above - 1]:g} to below {edges[above]:g}"
