"""Parquet files with encoded images in a column, as Hugging Face's ``datasets`` saves them.

There, an image is a struct of ``bytes`` and ``path``, a label is a whole number whose name stands in the schema's metadata,
and a file is named after its split (``train-00000-of-00004.parquet``). A column of plain bytes works as well. A row is read
together with its row group, and a few row groups are kept in memory; so images are read in order wherever possible.
``data.feed=stream`` reads them in random order, and thus a row group per image.
"""

import functools
import json
import threading
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raylight.data.packed.protocol import COLUMNS, local, split_of
from raylight.errors import DataError, did_you_mean

_LABELS = ("label", "labels", "class", "target")
_CACHED_ROW_GROUPS = 8
"""Row groups kept in memory; ``datasets`` writes 100 images per group."""


class Parquet:
    """All Parquet files in a folder, or a single one.

    Args:
        root: the folder or file.
        image: name of the column with images; ``None`` takes the only one that can hold them.
        label: name of the column with labels; ``None`` takes ``label``, ``labels``, ``class`` or ``target``.
        group: name of the column with patients or objects, if there is one.
    """

    def __init__(self, root: str, image: str | None = None, label: str | None = None, group: str | None = None) -> None:
        self.root = local(root)
        self.image, self.label, self.group = image, label, group
        self._lock = threading.Lock()
        self._rows = functools.lru_cache(maxsize=_CACHED_ROW_GROUPS)(self._row_group)

    def entries(self) -> pa.Table:
        """See ``ImageSource``; the key of an image consists of its Parquet file, its row, and its original name."""
        files = sorted(self.root.rglob("*.parquet")) if self.root.is_dir() else [self.root]
        if not files or not files[0].is_file():
            raise DataError(
                f"data.root={self.root}: no Parquet file is there; expected one, or a folder with *.parquet"
            )
        return pa.concat_tables([self._entries_of(file) for file in files], promote_options="permissive")

    def read(self, key: str) -> bytes:
        """See ``ImageSource``."""
        file, row = self._locate(key)
        reader = self._reader(file)
        group, number = 0, row
        while number >= (length := reader.metadata.row_group(group).num_rows):
            group, number = group + 1, number - length
        with self._lock:
            cell = self._rows(file, group)[number].as_py()
        content = cell["bytes"] if isinstance(cell, dict) else cell
        if content is None:
            raise OSError(0, "the row has no image")
        return bytes(content)

    def _entries_of(self, file: Path) -> pa.Table:
        try:
            schema = pq.read_schema(file)
            image, label = self._image_column(schema, file), self._label_column(schema, file)
            flat = [name for name in schema.names if name != image and not pa.types.is_nested(schema.field(name).type)]
            has_names = pa.types.is_struct(schema.field(image).type)
            table = pq.ParquetFile(file).read(columns=[*flat, *([f"{image}.path"] if has_names else [])])
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{file} can't be read as a Parquet file: {error}") from error
        relative = file.relative_to(self.root).as_posix() if self.root.is_dir() else file.name
        names = [cell["path"] for cell in table.column(image).to_pylist()] if has_names else [None] * table.num_rows
        keys = [f"{relative}/{row:08d}/{PurePosixPath(name or 'image').name}" for row, name in enumerate(names)]
        not_metadata = {label, self.group, *COLUMNS}
        status = file.stat()
        return pa.table(
            {
                **{name: table.column(name) for name in flat if name not in not_metadata},
                "key": pa.array(keys, pa.string()),
                "label": pa.array(self._labels(table.column(label), schema, label, file), pa.string()),
                "group": pa.array(
                    [None if one is None else str(one) for one in table.column(self.group).to_pylist()]
                    if self.group
                    else [None] * len(keys),
                    pa.string(),
                ),
                "split": pa.array([split_of(relative)] * len(keys), pa.string()),
                "modified": pa.array([status.st_mtime_ns] * len(keys), pa.int64()),
            }
        )

    def _image_column(self, schema: pa.Schema, file: Path) -> str:
        candidates = [field.name for field in schema if _holds_images(field.type)]
        if self.image is None and len(candidates) == 1:
            return str(candidates[0])
        return _chosen("image", self.image, candidates, file)

    def _label_column(self, schema: pa.Schema, file: Path) -> str:
        names = [name for name in schema.names if self.label is not None or name in _LABELS]
        if self.label is None and names:
            return str(names[0])
        return _chosen("label", self.label, schema.names, file)

    def _labels(self, column: Any, schema: pa.Schema, name: str, file: Path) -> list[str]:
        """The class names where the metadata has them, else the values. For Hugging Face, -1 means that there is no label."""
        values = column.to_pylist()
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
        names = features.get(name, {}).get("names")
        if missing := next((row for row, value in enumerate(values) if value is None or value == -1), None):
            raise DataError(
                f"{file}: row {missing} has no label; remove files without labels, such as those of a test split"
            )
        return [names[value] if names and isinstance(value, int) else str(value) for value in values]

    def _locate(self, key: str) -> tuple[Path, int]:
        relative, row, _ = key.rsplit("/", 2)
        return (self.root / relative if self.root.is_dir() else self.root), int(row)

    @functools.lru_cache(maxsize=64)  # noqa: B019 - a source lives as long as its process
    def _reader(self, file: Path) -> Any:
        return pq.ParquetFile(file)

    def _row_group(self, file: Path, group: int) -> Any:
        reader = self._reader(file)
        image = self._image_column(reader.schema_arrow, file)
        return reader.read_row_group(group, columns=[image]).column(image)


def _holds_images(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(field.name == "bytes" for field in kind)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _chosen(setting: str, name: str | None, columns: list[str], file: Path) -> str:
    if name in columns:
        return str(name)
    given = "isn't given" if name is None else f"is {name!r}{did_you_mean(name, columns)}"
    raise DataError(f"{file}: data.source.{setting} {given}; possible columns: {', '.join(columns) or 'none'}")
