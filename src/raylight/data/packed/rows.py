"""Tables of encoded images, as Hugging Face's ``datasets`` keeps them in Parquet and Arrow files.

There, an image is a struct of ``bytes`` and ``path``, and a label is a whole number whose name stands in the schema's metadata.
A column of plain bytes and labels as text work as well. See https://huggingface.co/docs/datasets/about_dataset_features.

Not here: opening the tables (``parquet``, ``hub``).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raylight.data.names import is_missing
from raylight.data.packed.protocol import COLUMNS
from raylight.errors import DataError, did_you_mean

_LABELS = ("label", "labels", "class", "target")
"""Names of columns that are taken for labels."""
_UNLABELLED = -1
"""For Hugging Face, -1 means that there is no label."""


@dataclass(frozen=True)
class Columns:
    """The columns of a table by their use.

    Attributes:
        image: name of the column with images.
        label: name of the column with labels.
        group: name of the column with patients or objects; ``None`` if there is none.
        class_names: class names by number; empty where the labels aren't numbers with names.
        metadata: names of the columns that are kept as metadata of each image.
    """

    image: str
    label: str
    group: str | None
    class_names: tuple[str, ...]
    metadata: tuple[str, ...]


@dataclass(frozen=True)
class Part:
    """One of the tables of a source.

    Attributes:
        name: name of the table; the keys of its images begin with it.
        split: train, val, test, or ``None`` if unknown.
        modified: time of its last change, in nanoseconds since 1970.
        location: where it is, for messages.
        remedy: what can be done about an image without a label, for messages.
    """

    name: str
    split: str | None
    modified: int
    location: str
    remedy: str


@dataclass(frozen=True)
class ColumnNames:
    """Names of columns as the user gave them.

    Attributes:
        image: column with images; ``None`` takes the only one that can hold them.
        label: column with labels; ``None`` takes ``label``, ``labels``, ``class`` or ``target``, else the only one whose
            numbers have names.
        group: column with patients or objects; ``None`` if there is none.
    """

    image: str | None = None
    label: str | None = None
    group: str | None = None

    def find(self, schema: pa.Schema, location: str) -> Columns:
        """Finds the columns in a table.

        Args:
            schema: schema of the table.
            location: where the table is, for messages.

        Returns:
            The columns.

        Raises:
            DataError: one isn't there, or several could be meant; the message lists them.
        """
        metadata = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features: Mapping[str, Any] = metadata.get("info", {}).get("features") or {}
        images = [field.name for field in schema if _can_hold_images(field.type)]
        others = [name for name in schema.names if name not in images]
        if not images:
            raise DataError(f"{location}: no column holds encoded images; the columns are {', '.join(schema.names)}")
        labels = [name for name in others if name in _LABELS][:1] or _of_type(features, "ClassLabel", others)
        image = _chosen("image", self.image, _of_type(features, "Image", images) or images, images, location)
        label = _chosen("label", self.label, labels, others, location)
        group = None if self.group is None else _chosen("group", self.group, [], others, location)
        used = {label, group, *COLUMNS}
        return Columns(
            image=image,
            label=label,
            group=group,
            class_names=tuple(features.get(label, {}).get("names") or ()),
            metadata=tuple(
                name for name in others if name not in used and not pa.types.is_nested(schema.field(name).type)
            ),
        )


def entries_of(table: pa.Table, columns: Columns, part: Part) -> pa.Table:
    """Lists the images of a table.

    Args:
        table: has the columns; of the images, only their ``path`` is needed.
        columns: its columns by their use.
        part: its name, split and origin.

    Returns:
        A table as ``ImageSource.entries`` returns it.

    Raises:
        DataError: an image has no label.
    """
    count, names = table.num_rows, _file_names(table, columns.image)
    groups = table.column(columns.group).to_pylist() if columns.group else [None] * count
    return pa.table(
        {
            **{name: table.column(name) for name in columns.metadata},
            "key": pa.array([key_of(part.name, row, name) for row, name in enumerate(names)], pa.string()),
            "label": pa.array(_labels(table.column(columns.label).to_pylist(), columns, part), pa.string()),
            "group": pa.array([None if is_missing(group) else str(group) for group in groups], pa.string()),
            "split": pa.array([part.split] * count, pa.string()),
            "modified": pa.array([part.modified] * count, pa.int64()),
        }
    )


def key_of(part: str, row: int, name: str | None) -> str:
    """The key of an image.

    Args:
        part: name of its table.
        row: its row.
        name: its original file name, if known.

    Returns:
        The key, unique within the source.

    Example:
        >>> key_of("train", 7, "folder/photo.jpg"), key_of("train", 8, None)
        ('train/00000007/photo.jpg', 'train/00000008/image')
    """
    return f"{part}/{row:08d}/{PurePosixPath(name or 'image').name}"


def locate(key: str) -> tuple[str, int]:
    """Splits the key of an image.

    Args:
        key: made by ``key_of``.

    Returns:
        The name of its table, and its row.

    Example:
        >>> locate("data/train.parquet/00000007/photo.jpg")
        ('data/train.parquet', 7)
    """
    part, row, _ = key.rsplit("/", 2)
    return part, int(row)


def _file_names(table: pa.Table, image: str) -> Sequence[str | None]:
    """The original file name of each image, where the table has it."""
    if image in table.column_names:
        column = table.column(image)
        if pa.types.is_struct(column.type) and column.type.get_field_index("path") >= 0:
            names: list[str | None] = pc.struct_field(column, "path").to_pylist()
            return names
    return [None] * table.num_rows


def _labels(values: Sequence[Any], columns: Columns, part: Part) -> list[str]:
    """The class names where the metadata has them, else the values."""
    missing = next((row for row, value in enumerate(values) if is_missing(value) or value == _UNLABELLED), None)
    if missing is not None:
        raise DataError(f"{part.location}: row {missing} has no label; {part.remedy}")
    names = columns.class_names
    return [names[value] if names and isinstance(value, int) else str(value) for value in values]


def _can_hold_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _of_type(features: Mapping[str, Any], kind: str, names: Sequence[str]) -> list[str]:
    """The columns that have one of Hugging Face's feature types, by the metadata."""
    return [name for name in names if isinstance(features.get(name), Mapping) and features[name].get("_type") == kind]


def _chosen(setting: str, given: str | None, candidates: Sequence[str], possible: Sequence[str], location: str) -> str:
    """The column that the user gave, else the only candidate."""
    if given is None and len(candidates) == 1:
        return candidates[0]
    if given is not None and given in possible:
        return given
    if given is not None:
        problem = f"is {given!r}{did_you_mean(given, possible)}"
    else:
        problem = f"isn't given, and {len(candidates)} columns fit" if candidates else "isn't given"
        possible = candidates or possible
    raise DataError(f"{location}: data.source.{setting} {problem}; possible columns: {', '.join(possible) or 'none'}")
