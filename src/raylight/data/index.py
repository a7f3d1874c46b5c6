"""One table, a row a file: what is in it, whether it can be used, and if not why.

Reads each file once, hashes it, and decodes it to a thumbnail, which finds broken files. A file whose size and
modification time are as they were isn't read again. What a class or a split is comes from ``source`` and ``split``.
"""

import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from jaxtyping import Int64, UInt8

from raylight.config.schema import DataConfig
from raylight.data.decode import CODE_VERSION, DecodeSpec, decode_image
from raylight.data.source import Source
from raylight.errors import BadImageError, DataError

INDEX_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("bytes", pa.int64()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("mode", pa.string()),
        ("sha256", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
    ]
)

THUMBNAIL = DecodeSpec(32, "stretch")
"""What pictures are compared by when looking for the same one twice."""


@dataclass(frozen=True, eq=False)
class Index:
    """The files of a data set.

    Attributes:
        root: the data set's folder.
        class_names: in alphabetical order.
        positive_class: the class that recall, AUROC and so on speak of.
        table: a row a file, of ``INDEX_SCHEMA``.
        thumbnails: the whole picture at 32 x 32; black where the file is bad.
    """

    root: Path
    class_names: tuple[str, ...]
    positive_class: str
    table: pa.Table
    thumbnails: UInt8[np.ndarray, "file 32 32 3"]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> list[Any]:
        """A column's values, null as None."""
        values: list[Any] = self.table.column(name).to_pylist()
        return values

    def with_column(self, name: str, values: Sequence[Any]) -> "Index":
        """The same index with a column replaced."""
        position = INDEX_SCHEMA.get_field_index(name)
        column = pa.array(values, INDEX_SCHEMA.field(name).type)
        return replace(self, table=self.table.set_column(position, INDEX_SCHEMA.field(name), column))

    def select(self, positions: Int64[np.ndarray, " chosen"]) -> "Index":
        """Some of the files, in the order asked for."""
        return replace(self, table=self.table.take(pa.array(positions)), thumbnails=self.thumbnails[positions])

    def usable(self) -> "Index":
        """The files that can be used."""
        return self.select(self._where("status", "ok"))

    def in_split(self, split: str) -> "Index":
        """The usable files of ``train``, ``val`` or ``test``."""
        usable = self.usable()
        return usable.select(usable._where("split", split))

    def _where(self, name: str, value: str) -> Int64[np.ndarray, " chosen"]:
        return np.flatnonzero(np.array(self.column(name), dtype=object) == value)

    def targets(self) -> Int64[np.ndarray, " file"]:
        """Position of each file's label in ``class_names``."""
        position = {name: number for number, name in enumerate(self.class_names)}
        return np.array([position[label] for label in self.column("label")], dtype=np.int64)

    def rejected(self) -> list[tuple[str, str]]:
        """Path and reason of each file that can't be used."""
        rows = zip(self.column("path"), self.column("status"), self.column("reason"), strict=True)
        return [(path, reason) for path, status, reason in rows if status == "bad"]

    def reject(self, reasons: Mapping[str, str]) -> "Index":
        """The same index with more files marked as bad, by content hash."""
        if not reasons:
            return self
        hashes, status, reason = self.column("sha256"), self.column("status"), self.column("reason")
        status = ["bad" if digest in reasons else state for digest, state in zip(hashes, status, strict=True)]
        reason = [reasons.get(digest, why) for digest, why in zip(hashes, reason, strict=True)]
        return self.with_column("status", status).with_column("reason", reason)

    def write(self, path: Path) -> None:
        """Write the table, without thumbnails, as parquet that appears whole or not at all."""
        facts = {
            "root": os.fsencode(self.root),
            "class_names": "\n".join(self.class_names).encode("utf-8", "surrogateescape"),
            "positive_class": self.positive_class.encode("utf-8", "surrogateescape"),
        }
        temporary = path.with_name(f".{path.name}.tmp")
        pq.write_table(self.table.replace_schema_metadata(facts), temporary)
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Index":
        """Read what ``write`` wrote; thumbnails are black."""
        table = pq.read_table(path)
        facts = table.schema.metadata
        return cls(
            root=Path(os.fsdecode(facts[b"root"])),
            class_names=tuple(facts[b"class_names"].decode("utf-8", "surrogateescape").split("\n")),
            positive_class=facts[b"positive_class"].decode("utf-8", "surrogateescape"),
            table=table.replace_schema_metadata(None),
            thumbnails=np.zeros((table.num_rows, 32, 32, 3), np.uint8),
        )


def build_index(source: Source, cache_dir: Path, workers: int) -> Index:
    """Index a data set's files; those that are as they were are remembered from the last time.

    Args:
        source: the files.
        cache_dir: where indexes are remembered.
        workers: files read at a time.
    """
    folder = cache_dir / "index"
    folder.mkdir(parents=True, exist_ok=True)
    key = hashlib.sha256(os.fsencode(source.root) + f"/{CODE_VERSION}".encode()).hexdigest()[:32]
    with FileLock(folder / f"{key}.lock"):
        known = _remembered(folder / f"{key}.npz")
        stamps = [_stamp(source.root / file.path) for file in source.files]
        fresh = [i for i, file in enumerate(source.files) if known.get(file.path, (None,))[0] != stamps[i] or not stamps[i]]
        with ThreadPoolExecutor(workers) as pool:
            read = pool.map(lambda i: _read(source.root / source.files[i].path), fresh)
            facts = {i: fact for i, fact in zip(fresh, read, strict=True)}
        rows = [facts[i] if i in facts else known[file.path][1] for i, file in enumerate(source.files)]
        if fresh:
            _remember(folder / f"{key}.npz", [file.path for file in source.files], stamps, rows)
    columns = {
        "path": [file.path for file in source.files],
        "label": [file.label for file in source.files],
        "group": [file.group for file in source.files],
        "split": [file.split for file in source.files],
        **{name: [row[name] for row in rows] for name in INDEX_SCHEMA.names[4:]},
    }
    return Index(
        root=source.root,
        class_names=source.class_names,
        positive_class=source.positive_class,
        table=pa.table(columns, schema=INDEX_SCHEMA),
        thumbnails=np.stack([row["thumbnail"] for row in rows]),
    )


def check_bad_fraction(index: Index, data: DataConfig) -> None:
    """Stop when too many files are bad.

    Raises:
        DataError: more than ``data.max_bad_fraction`` of them are; it names the first few.
    """
    rejected = index.rejected()
    if len(rejected) <= data.max_bad_fraction * len(index):
        return
    first = "\n".join(f"  {path}: {reason}" for path, reason in rejected[:10])
    more = f"\n  and {len(rejected) - 10} more" if len(rejected) > 10 else ""
    raise DataError(
        f"{len(rejected)} of {len(index)} files can't be used, more than data.max_bad_fraction={data.max_bad_fraction:g} "
        f"allows:\n{first}{more}\nMend or remove them, or allow more with data.max_bad_fraction=SHARE."
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def _read(path: Path) -> dict[str, Any]:
    """Everything the index says of one file."""
    row: dict[str, Any] = {
        "bytes": 0, "width": None, "height": None, "mode": None, "sha256": None, "status": "bad", "reason": None,
        "thumbnail": np.zeros((32, 32, 3), np.uint8),
    }  # fmt: skip
    try:
        content = path.read_bytes()
    except OSError as error:
        return row | {"reason": f"can't be read ({error.strerror})"}
    row |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    try:
        thumbnail = decode_image(content, THUMBNAIL)
        width, height, mode = _header(content)
    except BadImageError as error:
        return row | {"reason": str(error)}
    return row | {"width": width, "height": height, "mode": mode, "status": "ok", "thumbnail": thumbnail}


def _header(content: bytes) -> tuple[int, int, str]:
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        return picture.width, picture.height, picture.mode


_REMEMBERED = ("bytes", "width", "height", "mode", "sha256", "status", "reason")


def _remember(path: Path, paths: list[str], stamps: list[tuple[int, int] | None], rows: list[dict[str, Any]]) -> None:
    temporary = path.with_name(f".{path.name}.tmp.npz")
    table = {name: pa.array([row[name] for row in rows], INDEX_SCHEMA.field(name).type) for name in _REMEMBERED}
    table |= {"path": pa.array(paths), "stamp": pa.array([stamp and list(stamp) for stamp in stamps], pa.list_(pa.int64()))}
    buffer = pa.BufferOutputStream()
    pq.write_table(pa.table(table), buffer)
    np.savez(
        temporary,
        table=np.frombuffer(buffer.getvalue(), np.uint8),
        thumbnails=np.stack([row["thumbnail"] for row in rows]),
    )
    temporary.replace(path)


def _remembered(path: Path) -> dict[str, tuple[tuple[int, int] | None, dict[str, Any]]]:
    if not path.is_file():
        return {}
    with np.load(path) as stored:
        table = pq.read_table(pa.BufferReader(stored["table"].tobytes())).to_pylist()
        thumbnails = stored["thumbnails"]
    return {
        row["path"]: (
            tuple(row["stamp"]) if row["stamp"] else None,
            {name: row[name] for name in _REMEMBERED} | {"thumbnail": thumbnail},
        )
        for row, thumbnail in zip(table, thumbnails, strict=True)
    }
