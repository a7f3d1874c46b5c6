"""Parquet files with encoded images in a column, as Hugging Face's ``datasets`` saves them.

A file is named after its split (``train-00000-of-00004.parquet``), and ``rows`` finds its columns. A row is read together
with its row group, and a few row groups are kept in memory; so images are read in order wherever possible.
``data.feed=stream`` reads them in random order, and thus a row group per image.
"""

import functools
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from raylight.data.packed.rows import ColumnNames, Part, entries_of, locate
from raylight.data.packed.shards import ShardFile, Shards, split_of
from raylight.errors import DataError, first_line

_CACHED_ROW_GROUPS = 8
"""Row groups kept in memory; ``datasets`` writes 100 images per group."""


class Parquet:
    """All Parquet files in a folder, or a single one.

    Args:
        root: the folder or file, or its URI.
        image: name of the column with images; ``None`` takes the only one that can hold them.
        label: name of the column with labels; ``None`` takes ``label``, ``labels``, ``class`` or ``target``, else the only one
            whose numbers have names.
        group: name of the column with patients or objects, if there is one.
    """

    def __init__(self, root: str, image: str | None = None, label: str | None = None, group: str | None = None) -> None:
        self.shards = Shards(root, ".parquet", "Parquet file")
        self.names = ColumnNames(image, label, group)
        self._lock = threading.Lock()
        self._rows = functools.lru_cache(maxsize=_CACHED_ROW_GROUPS)(self._row_group)

    def entries(self) -> pa.Table:
        """See ``ImageSource``; the key of an image consists of its Parquet file, its row, and its original name."""
        tables = [self._entries_of(shard) for shard in self.shards.found().values()]
        return pa.concat_tables(tables, promote_options="permissive")

    def read(self, key: str) -> bytes:
        """See ``ImageSource``."""
        name, row = locate(key)
        with self._lock:
            reader = self._reader(name)
            group, number = 0, row
            while number >= (length := reader.metadata.row_group(group).num_rows):
                group, number = group + 1, number - length
            cell = self._rows(name, group)[number].as_py()
        content = cell["bytes"] if isinstance(cell, dict) else cell
        if content is None:
            raise OSError(0, "the row has no image")
        return bytes(content)

    def _entries_of(self, shard: ShardFile) -> pa.Table:
        location = str(shard.path)
        try:
            reader = self._reader(shard.name)
            columns = self.names.find(reader.schema_arrow, location)
            needed = [name for name in (columns.label, columns.group, *columns.metadata) if name is not None]
            if pa.types.is_struct(reader.schema_arrow.field(columns.image).type):
                needed.append(f"{columns.image}.path")
            table = reader.read(columns=needed)
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{location} can't be read as a Parquet file: {first_line(error)}") from error
        remedy = "remove files without labels, such as those of a test split"
        return entries_of(table, columns, Part(shard.name, split_of(shard.name), shard.modified, location, remedy))

    @functools.lru_cache(maxsize=64)  # noqa: B019 - a source lives as long as its process
    def _reader(self, name: str) -> Any:
        path = self.shards.path(name)
        if isinstance(path, Path):
            return pq.ParquetFile(path)
        return pq.ParquetFile(path.open("rb"), pre_buffer=True)

    def _row_group(self, name: str, group: int) -> Any:
        reader = self._reader(name)
        image = self.names.find(reader.schema_arrow, name).image
        return reader.read_row_group(group, columns=[image]).column(image)
