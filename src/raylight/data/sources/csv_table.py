"""Labels, groups and splits from a table: a CSV with the columns path, label and optionally group, split.

Columns are separated by commas, semicolons (as spreadsheets do where the comma is the decimal sign), tabs or bars. Further
columns are kept as metadata of each image. If all paths are absolute and outside the root, their common folder is the root.
"""

import csv
import io
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from raylight.config.uris import is_uri
from raylight.data.names import SPLITS, describe_classes, quoted, says_missing
from raylight.data.sources.layouts import LayoutMatch, SourceFile
from raylight.errors import DataError
from raylight.storage.remote import AnyPath, to_path

_COLUMNS = ("path", "label", "group", "split")
_SEPARATORS = (",", ";", "\t", "|")


def read_csv(table: str, root: AnyPath, known: Collection[str] = ()) -> LayoutMatch:
    """Reads a table of labels.

    Args:
        table: a URI, or a path relative to the working folder or to ``root``.
        root: folder that the paths in the table are relative to.
        known: normalised names of the classes of a trained model; one of them is enough, else two classes are needed.

    Returns:
        The files, with their labels, groups and splits.

    Raises:
        DataError: there is no such table, or it can't be read; the message names the line.
    """
    candidates = (to_path(table) if is_uri(table) else Path(table).expanduser(), root / table)
    path = next((file for file in candidates if file.is_file()), None)
    if path is None:
        raise DataError(f"data.csv={table}: no such file in the working folder or in {root}.")
    files: list[SourceFile] = []
    seen: dict[str, int] = {}
    try:
        with io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="") as lines:
            separator = _separator(lines.readline())
            lines.seek(0)
            rows = csv.DictReader(lines, skipinitialspace=True, delimiter=separator)
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or []]
            repeated = [name for name in dict.fromkeys(rows.fieldnames) if name and rows.fieldnames.count(name) > 1]
            if repeated:
                raise DataError(f"{path}: more than one column is called {quoted(repeated)}. Keep one of them.")
            missing = [name for name in ("path", "label") if name not in rows.fieldnames]
            if missing:
                raise DataError(
                    f"{path}: no column {' and no column '.join(missing)}; its first line has {quoted(rows.fieldnames)}. "
                    "Expected path, label and optionally group, split, separated by commas, semicolons or tabs."
                )
            numbered = [
                (rows.line_num, {key: (value or "").strip() for key, value in row.items() if key}) for row in rows
            ]
            root = _common_root([cells["path"] for _, cells in numbered], root)
            for number, cells in numbered:
                file = _csv_file(cells, path, number, root)
                if file.path in seen:
                    raise DataError(f"{path}: lines {seen[file.path]} and {number} both name {file.path!r}.")
                seen[file.path] = number
                files.append(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as a table in UTF-8: {error}") from error
    found = LayoutMatch(root, "csv", files, [])
    if not found.is_data_set(known):
        raise DataError(
            f"{path} has {len(files):,} rows and {describe_classes(found.labels)}; two or more classes are needed."
        )
    return found


def _csv_file(row: dict[str, str], table: AnyPath, line: int, root: AnyPath) -> SourceFile:
    name, label, group, split = row["path"], row["label"], row.get("group", ""), row.get("split", "")
    if not name or not label:
        raise DataError(f"{table}: line {line} has no {'label' if name else 'path'}.")
    if says_missing(label):
        raise DataError(
            f"{table}: line {line}: the label {label!r} usually means a missing value. Give the label, or remove the line; "
            "a class that is really called this needs another name."
        )
    path = _relative(name, root)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"{table}: line {line}: {name!r} is outside data.root, which paths are relative to.")
    if split and split.casefold() not in SPLITS:
        raise DataError(f"{table}: line {line}: split={split!r}; expected train, val, test or nothing.")
    metadata = {name: value for name, value in row.items() if name not in _COLUMNS and value}
    return SourceFile(
        str(path),
        label,
        None if says_missing(group) else group,
        SPLITS[split.casefold()] if split else None,
        json.dumps(metadata) if metadata else None,
    )


def _separator(header: str) -> str:
    """The separator that gives the first line of a table the columns path and label; a comma if none does."""
    for separator in _SEPARATORS:
        names = {name.strip().lower() for name in next(csv.reader([header], delimiter=separator), [])}
        if {"path", "label"} <= names:
            return separator
    return _SEPARATORS[0]


def _common_root(names: Sequence[str], root: AnyPath) -> AnyPath:
    """The root; if all paths are absolute and none is below it, their common folder."""
    paths = [PurePosixPath(name) for name in names]
    if (
        not isinstance(root, Path)
        or not paths
        or not all(path.is_absolute() and ".." not in path.parts for path in paths)
    ):
        return root
    if any(path.is_relative_to(root) or path.is_relative_to(root.resolve()) for path in paths):
        return root
    return Path(os.path.commonpath([path.parent for path in paths]))


def _relative(name: str, root: AnyPath) -> PurePosixPath:
    """A path relative to the root; an absolute one below the root is made relative."""
    if isinstance(root, Path):
        for start in (root, root.resolve()):
            if PurePosixPath(name).is_relative_to(start):
                return PurePosixPath(name).relative_to(start)
    elif name.startswith(f"{root}/"):
        return PurePosixPath(name.removeprefix(f"{root}/"))
    return PurePosixPath(name)
