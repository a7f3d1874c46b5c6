"""One table with a row per file: path, label, group, split, metadata, status.

Not here: which files belong to the data set (``sources``), reading them (``scan.memory``), assigning
splits (``splits.split``).
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int64, Shaped, UInt8

from raylight.config.schema import DataConfig
from raylight.data.scan.files import FACTS
from raylight.data.scan.memory import Decoding, Files, Reading, blank_thumbnails, scan_files
from raylight.data.sources.ignored import IgnoredEntry
from raylight.data.sources.source import Source
from raylight.errors import DataError
from raylight.storage.atomic import atomic_file
from raylight.storage.remote import AnyPath, to_path

_OF_FILE = FACTS.names[FACTS.names.index("bytes") : FACTS.names.index("patient")]

INDEX_SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("label", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        *(FACTS.field(name) for name in _OF_FILE),
        ("metadata", pa.string()),
    ]
)
"""Columns of the index. ``path`` is relative to the root; ``group`` names the patient or object, where known; ``split`` is
train, val, test or null; ``metadata`` holds the data set's further columns, as JSON; the others come from reading the file
(``scan.files.FACTS``)."""

GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""

_BLOCK = 2048
"""Thumbnails converted to grey at a time."""


@dataclass(frozen=True, eq=False)
class Index:
    """All files of a data set, or some of them.

    Attributes:
        root: local or remote folder that paths are relative to.
        class_names: in alphabetical order; the position of a name is the class's number.
        positive_class: the class that recall, AUROC and others refer to.
        table: with the columns of ``INDEX_SCHEMA``.
        thumbnails: RGB, 0 to 255, black for bad files; empty in an index read from a run folder.
        ignored: files and folders of the root that aren't used; empty in an index read from a run folder.
        split_warnings: where a split's size isn't what the settings ask for; empty in an index read from a run folder.
    """

    root: AnyPath
    class_names: tuple[str, ...]
    positive_class: str
    table: pa.Table
    thumbnails: UInt8[np.ndarray, "file 32 32 3"]
    ignored: tuple[IgnoredEntry, ...] = ()
    split_warnings: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> Shaped[np.ndarray, " file"]:
        """One column of the table; text as objects, with ``None`` for null."""
        return np.asarray(self.table.column(name).to_numpy(zero_copy_only=False))

    def with_column(self, name: str, values: Sequence[Any] | Shaped[np.ndarray, " file"]) -> "Index":
        """A copy of the index with other values in one column.

        Args:
            name: a column of ``INDEX_SCHEMA``.
            values: one per file; ``None`` for null.

        Returns:
            The copy; this index stays as it is.
        """
        field = self.table.schema.field(name)
        column = pa.array(values, type=field.type, from_pandas=True)
        return replace(self, table=self.table.set_column(self.table.schema.get_field_index(name), field, column))

    def select(self, which: Bool[np.ndarray, " file"] | Int64[np.ndarray, " selected"]) -> "Index":
        """Some rows, by a mask or by positions, in that order."""
        which = np.asarray(which)
        positions = np.flatnonzero(which) if which.dtype == bool else which.astype(np.int64)
        thumbnails = self.thumbnails[positions] if len(self.thumbnails) else self.thumbnails
        return replace(self, table=self.table.take(pa.array(positions)), thumbnails=thumbnails)

    def spread(self, most: int) -> "Index":
        """At most so many rows, at equal distances from the first to the last."""
        return self.select(np.unique(np.linspace(0, len(self) - 1, min(len(self), most)).astype(int)))

    def usable(self) -> "Index":
        """The files that can be decoded."""
        ok = self.column("status") == "ok"
        return self if ok.all() else self.select(ok)

    @cached_property
    def grey_levels(self) -> tuple[Float[np.ndarray, " file"], Float[np.ndarray, " file"]]:
        """Mean and standard deviation of each thumbnail's grey values, 0 to 255; computed in blocks to save memory."""
        means, deviations = np.zeros(len(self.thumbnails)), np.zeros(len(self.thumbnails))
        for start in range(0, len(self.thumbnails), _BLOCK):
            block = slice(start, start + _BLOCK)
            grey = self.thumbnails[block].astype(np.float32) @ GREY
            means[block] = grey.mean(axis=(1, 2), dtype=np.float64)
            deviations[block] = grey.std(axis=(1, 2), dtype=np.float64)
        return means, deviations

    def in_split(self, split: str) -> "Index":
        """The usable files of ``train``, ``val`` or ``test``, without thumbnails, which would have to be copied."""
        bare = replace(self, thumbnails=blank_thumbnails(0))
        return bare.select((self.column("status") == "ok") & (self.column("split") == split))

    def rejected(self) -> list[tuple[str, str]]:
        """Path and reason of each file that can't be used."""
        bad = self.table.filter(pc.equal(self.table.column("status"), "bad"))
        return list(zip(bad.column("path").to_pylist(), bad.column("reason").to_pylist(), strict=True))

    def notes(self) -> list[tuple[str, str]]:
        """Path and note of each usable file with a peculiarity, such as an animation of which one frame is used."""
        peculiar = self.table.filter(
            pc.and_(pc.equal(self.table.column("status"), "ok"), self.table.column("note").is_valid())
        )
        return list(zip(peculiar.column("path").to_pylist(), peculiar.column("note").to_pylist(), strict=True))

    def reject(self, reasons: Mapping[str, str]) -> "Index":
        """A copy of the index with more files marked as bad.

        Args:
            reasons: why, by SHA-256 of the content.

        Returns:
            The copy, in which these files have no split.
        """
        if not reasons:
            return self
        hashes = self.column("sha256")
        bad = [sha in reasons for sha in hashes]
        all_reasons = [reasons.get(sha, old) for sha, old in zip(hashes, self.column("reason"), strict=True)]
        splits = [None if is_bad else old for is_bad, old in zip(bad, self.column("split"), strict=True)]
        return (
            self.with_column("status", np.where(bad, "bad", self.column("status")))
            .with_column("reason", all_reasons)
            .with_column("split", splits)
        )

    def targets(self) -> Int64[np.ndarray, " file"]:
        """Class number of each file: its position in ``class_names``."""
        numbers = pc.index_in(self.table.column("label"), value_set=pa.array(self.class_names))
        return np.asarray(numbers.to_numpy(), dtype=np.int64)

    def write(self, path: Path) -> None:
        """Writes the table, without thumbnails, to a Parquet file, atomically."""
        about = {
            "root": str(self.root),
            "class_names": self.class_names,
            "positive_class": self.positive_class,
        }
        text = json.dumps(about).encode()
        with atomic_file(path) as temporary:
            pq.write_table(self.table.replace_schema_metadata({b"raylight": text}), temporary)

    @classmethod
    def read(cls, path: Path) -> "Index":
        """Reads a file written by ``write``.

        Args:
            path: of the Parquet file.

        Returns:
            The index, without thumbnails.

        Raises:
            DataError: the file is missing, damaged, or not an index.
        """
        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {})[b"raylight"])
            for name in ("note", "metadata"):
                if name not in table.column_names:  # written by a version without them
                    table = table.append_column(name, pa.nulls(len(table), pa.string()))
            table = table.replace_schema_metadata(None).cast(INDEX_SCHEMA)
            return cls(
                to_path(about["root"]),
                tuple(about["class_names"]),
                about["positive_class"],
                table,
                blank_thumbnails(0),
            )
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise DataError(f"{path} isn't an index that Raylight wrote: {error}") from error


def build_index(
    source: Source,
    cache_dir: Path,
    workers: int,
    on_progress: Callable[[int], None] = lambda more: None,
    decoding: Decoding | None = None,
) -> Index:
    """Builds the index of a data set; reads only files that are new or have changed.

    Args:
        source: the files.
        cache_dir: results are kept here, below ``index``, for the next time.
        workers: number of files read in parallel.
        on_progress: called with the number of files done since the last call.
        decoding: the images that will be needed. Where no file is known from before, they are decoded in the same pass, and
            ``cached_images`` finds them.

    Returns:
        The index of all files, usable or not, with the splits that the data set ships.

    Raises:
        DataError: ``cache_dir`` can't be written, or its disk is full.
    """
    files = Files(source.root, source.layout, [file.path for file in source.files])
    try:
        facts, thumbnails = scan_files(files, cache_dir, Reading(workers, on_progress, decoding))
    except OSError as error:
        raise DataError(
            f"cache_dir={cache_dir} can't be written: {error.strerror or error}. Free disk space, or choose another folder."
        ) from error
    table = pa.table(
        {
            "path": facts.column("path"),
            "label": [file.label for file in source.files],
            "group": pa.array(_groups(source, facts), pa.string()),
            "split": pa.array([file.split for file in source.files], pa.string()),
            **{name: facts.column(name) for name in _OF_FILE},
            "metadata": pa.array([file.metadata for file in source.files], pa.string()),
        },
        schema=INDEX_SCHEMA,
    )
    names = source.class_names, source.positive_class
    return Index(source.root, *names, table.combine_chunks(), thumbnails, source.ignored)


def _groups(source: Source, facts: pa.Table) -> list[str | None]:
    """The group of each file: the data set's own, else the patient of a DICOM file, named after their smallest SHA-256."""
    patients, hashes = facts.column("patient").to_pylist(), facts.column("sha256").to_pylist()
    first: dict[str, str] = {}
    for patient, sha in zip(patients, hashes, strict=True):
        if patient is not None:
            first[patient] = min(sha, first.get(patient, sha))
    return [
        file.group or (f"patient {first[patient][:12]}" if patient is not None else None)
        for file, patient in zip(source.files, patients, strict=True)
    ]


def check_bad_fraction(index: Index, data: DataConfig) -> None:
    """Raises an error if too many files are bad.

    Args:
        index: all files.
        data: has the limit, ``max_bad_fraction``, 0 to 1.

    Raises:
        DataError: more than ``data.max_bad_fraction`` of the files are bad, or all of them.
    """
    rejected = index.rejected()
    share = len(rejected) / len(index) if len(index) else 0.0
    if len(rejected) < len(index) and share <= data.max_bad_fraction:
        return
    shown = [f"  {path!r}: {reason}" for path, reason in rejected[:5]]
    if len(rejected) > len(shown):
        shown.append(f"  ... and {len(rejected) - len(shown):,} more")
    raise DataError(
        "\n".join(
            [
                f"{len(rejected):,} of {len(index):,} files in {index.root} can't be used ({share:.1%}; "
                f"data.max_bad_fraction={data.max_bad_fraction:g} allows {data.max_bad_fraction:.1%}):",
                *shown,
                "Repair or remove them, or allow more with data.max_bad_fraction=FRACTION.",
            ]
        )
    )
