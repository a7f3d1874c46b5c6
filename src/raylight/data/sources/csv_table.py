"""Labels, groups and splits from a table: a CSV with the columns path, label and optionally group, split."""

import csv
import io
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from raylight.config.uris import is_uri
from raylight.data.names import SPLITS, classes, listed
from raylight.data.sources.layouts import Found, SourceFile
from raylight.errors import DataError
from raylight.storage.remote import Place, place

_COLUMNS = ("path", "label", "group", "split")
_MISSING = frozenset({"nan", "na", "n/a", "#n/a", "<na>", "null"})
"""What spreadsheets and pandas write where there is no value."""


def read_csv(table: str, root: Place, known: Collection[str] = ()) -> Found:
    """The rows of a table of labels.

    Args:
        table: a path, here or relative to ``root``, or a URI.
        root: what its paths are relative to.
        known: names of classes of which one is enough, as ``same_name`` has them.

    Raises:
        DataError: there is no such table, or it can't be read; the message names the line.
    """
    places = (place(table) if is_uri(table) else Path(table).expanduser(), root / table)
    path = next((file for file in places if file.is_file()), None)
    if path is None:
        raise DataError(f"data.csv={table}: no such file, neither here nor in {root}.")
    files: list[SourceFile] = []
    seen: dict[str, int] = {}
    try:
        with io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="") as lines:
            rows = csv.DictReader(lines, skipinitialspace=True)
            rows.fieldnames = [name.strip().lower() for name in rows.fieldnames or []]
            doubled = [name for name in _COLUMNS if rows.fieldnames.count(name) > 1]
            if doubled:
                raise DataError(f"{path}: {listed(doubled)} heads more than one column. Keep one of them.")
            missing = [name for name in ("path", "label") if name not in rows.fieldnames]
            if missing:
                raise DataError(
                    f"{path}: no column {' and no column '.join(missing)}; its first line has {listed(rows.fieldnames)}. "
                    "Expected path, label and optionally group, split, separated by commas."
                )
            for row in rows:
                cells = {key: (value or "").strip() for key, value in row.items() if key}
                file = _csv_file(cells, path, rows.line_num, root)
                if file.path in seen:
                    raise DataError(f"{path}: lines {seen[file.path]} and {rows.line_num} both name {file.path!r}.")
                seen[file.path] = rows.line_num
                files.append(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} can't be read as a table in UTF-8: {error}") from error
    found = Found(root, "csv", files, [])
    if not found.is_data_set(known):
        raise DataError(f"{path} has {len(files):,} rows and {classes(found.labels)}; two or more classes are needed.")
    return found


def _csv_file(row: dict[str, str], table: Place, line: int, root: Place) -> SourceFile:
    name, label, split = row["path"], row["label"], row.get("split", "")
    if not name or not label:
        raise DataError(f"{table}: line {line} has no {'label' if name else 'path'}.")
    if label.casefold() in _MISSING:
        raise DataError(
            f"{table}: line {line}: the label {label!r} is how tables write a missing value. Give the label, or take the line "
            "out; a class that is really called so needs another name."
        )
    path = _relative(name, root)
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise DataError(f"{table}: line {line}: {name!r} leads out of data.root; paths are relative to it.")
    if split and split.casefold() not in SPLITS:
        raise DataError(f"{table}: line {line}: split={split!r}; expected train, val, test or nothing.")
    return SourceFile(str(path), label, row.get("group") or None, SPLITS[split.casefold()] if split else None)


def _relative(name: str, root: Place) -> PurePosixPath:
    """A path as the root sees it; one that is written in full loses the root in front."""
    if isinstance(root, Path):
        for start in (root, root.resolve()):
            if PurePosixPath(name).is_relative_to(start):
                return PurePosixPath(name).relative_to(start)
    elif name.startswith(f"{root}/"):
        return PurePosixPath(name.removeprefix(f"{root}/"))
    return PurePosixPath(name)
