"""One table with a row a file: what it is, what it shows, and whether it can be used.

Each file is read once: hashed, its header noted, decoded to a small picture, which also finds the broken ones. What
was found is remembered for each root; a file whose size and modification time are unchanged isn't read again.

Not here: which files belong to the data set (``source.py``), how pixels are decoded (``decode.py``), who trains and
who tests (``split.py``).
"""

import hashlib
import io
import json
import logging
import os
import stat
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from jaxtyping import Bool, Float, Int64, Shaped, UInt8

from raylight.config.schema import DataConfig
from raylight.data.decode.image import CODE_VERSION, FORMATS, RESIZER, DecodeSpec, decode_image
from raylight.data.sources.source import Source, printable
from raylight.errors import BadImageError, DataError
from raylight.storage.atomic import sync
from raylight.storage.remote import Place, RemotePath, place

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
        ("format", pa.string()),
        ("sha256", pa.string()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("note", pa.string()),
    ]
)
"""Columns of the index. ``path`` is relative to the root; ``group`` names the patient or object, where known; ``split`` is
train, val, test or null; ``width`` and ``height`` are as stored, before any rotation; ``mode`` and ``format`` as
Pillow calls them; ``status`` is ok or bad; ``reason`` says why a file is bad, ``note`` what is odd about a good
one."""

THUMBNAIL_SIZE = 32
GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)
"""Weights of red, green and blue in a grey value (ITU-R BT.601)."""
LARGEST_FILE = 500_000_000
"""Bytes. What is larger isn't a picture that anybody trains on, and isn't read into memory."""

_MEMORY_VERSION = 2
_FACTS = pa.schema(
    [("path", pa.string()), ("mtime_ns", pa.int64())]
    + [INDEX_SCHEMA.field(name) for name in INDEX_SCHEMA.names[INDEX_SCHEMA.names.index("bytes") :]]
)
_THUMBNAIL = (THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)
_NEVER = -1
_WINDOW = 2048
_AT_ONCE = 8
"""Files that a thread reads in a row: handing over each by itself takes a sixth of the time."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Index:
    """All files of a data set, or some of them.

    Attributes:
        root: folder, here or behind a URI, that paths are relative to.
        class_names: in alphabetical order; the position of a name is the class's number.
        positive_class: the class that recall, AUROC, ... speak of.
        table: with the columns of ``INDEX_SCHEMA``.
        thumbnails: 32 x 32 pictures, RGB, zeros for bad files; none at all in an index read from a run folder.
    """

    root: Place
    class_names: tuple[str, ...]
    positive_class: str
    table: pa.Table
    thumbnails: UInt8[np.ndarray, "file 32 32 3"]

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def column(self, name: str) -> Shaped[np.ndarray, " file"]:
        """One column; text as objects, with ``None`` for null."""
        return np.asarray(self.table.column(name).to_numpy(zero_copy_only=False))

    def with_column(self, name: str, values: Sequence[Any] | Shaped[np.ndarray, " file"]) -> "Index":
        """The same index with other values in a column of ``INDEX_SCHEMA``."""
        field = self.table.schema.field(name)
        column = pa.array(values, type=field.type, from_pandas=True)
        return replace(self, table=self.table.set_column(self.table.schema.get_field_index(name), field, column))

    def select(self, which: Bool[np.ndarray, " file"] | Int64[np.ndarray, " selected"]) -> "Index":
        """Some rows, by a mask or by positions, in that order."""
        which = np.asarray(which)
        positions = np.flatnonzero(which) if which.dtype == bool else which.astype(np.int64)
        thumbnails = self.thumbnails[positions] if len(self.thumbnails) else self.thumbnails
        return replace(self, table=self.table.take(pa.array(positions)), thumbnails=thumbnails)

    def usable(self) -> "Index":
        """The files that can be decoded."""
        ok = self.column("status") == "ok"
        return self if ok.all() else self.select(ok)

    @cached_property
    def grey_levels(self) -> tuple[Float[np.ndarray, " file"], Float[np.ndarray, " file"]]:
        """Mean and deviation of each thumbnail's grey values, 0 to 255; block by block, so that memory stays flat."""
        means, deviations = np.zeros(len(self.thumbnails)), np.zeros(len(self.thumbnails))
        for start in range(0, len(self.thumbnails), _WINDOW):
            block = slice(start, start + _WINDOW)
            grey = self.thumbnails[block].astype(np.float32) @ GREY
            means[block] = grey.mean(axis=(1, 2), dtype=np.float64)
            deviations[block] = grey.std(axis=(1, 2), dtype=np.float64)
        return means, deviations

    def in_split(self, split: str) -> "Index":
        """The usable files of ``train``, ``val`` or ``test``, without their thumbnails, which would be copied."""
        bare = replace(self, thumbnails=_no_thumbnails(0))
        return bare.select((self.column("status") == "ok") & (self.column("split") == split))

    def rejected(self) -> list[tuple[str, str]]:
        """Path and reason of each file that can't be used."""
        bad = self.table.filter(pc.equal(self.table.column("status"), "bad"))
        return list(zip(bad.column("path").to_pylist(), bad.column("reason").to_pylist(), strict=True))

    def noted(self) -> list[tuple[str, str]]:
        """Path and note of each usable file that is odd: an animation of which one picture is used, for example."""
        odd = self.table.filter(
            pc.and_(pc.equal(self.table.column("status"), "ok"), self.table.column("note").is_valid())
        )
        return list(zip(odd.column("path").to_pylist(), odd.column("note").to_pylist(), strict=True))

    def reject(self, reasons: Mapping[str, str]) -> "Index":
        """Marks more files as bad.

        Args:
            reasons: by SHA-256 of the content.
        """
        if not reasons:
            return self
        hashes = self.column("sha256")
        why = [reasons.get(sha, old) for sha, old in zip(hashes, self.column("reason"), strict=True)]
        splits = [None if sha in reasons else old for sha, old in zip(hashes, self.column("split"), strict=True)]
        hit = [sha in reasons for sha in hashes]
        return (
            self.with_column("status", np.where(hit, "bad", self.column("status")))
            .with_column("reason", why)
            .with_column("split", splits)
        )

    def targets(self) -> Int64[np.ndarray, " file"]:
        """The number of each file's class."""
        numbers = pc.index_in(self.table.column("label"), value_set=pa.array(self.class_names))
        return np.asarray(numbers.to_numpy(), dtype=np.int64)

    def write(self, path: Path) -> None:
        """Writes the table, without thumbnails, as a Parquet file that appears whole or not at all."""
        about = {
            "root": str(self.root),
            "class_names": self.class_names,
            "positive_class": self.positive_class,
        }
        text = json.dumps(about).encode()
        with _replacing(path) as temporary:
            pq.write_table(self.table.replace_schema_metadata({b"raylight": text}), temporary)

    @classmethod
    def read(cls, path: Path) -> "Index":
        """Reads what ``write`` wrote.

        Raises:
            DataError: the file is missing, damaged, or something else.
        """
        try:
            table = pq.read_table(path)
            about = json.loads((table.schema.metadata or {})[b"raylight"])
            if "note" not in table.column_names:  # written before there were notes
                table = table.append_column("note", pa.nulls(len(table), pa.string()))
            table = table.replace_schema_metadata(None).cast(INDEX_SCHEMA)
            return cls(
                place(about["root"]),
                tuple(about["class_names"]),
                about["positive_class"],
                table,
                _no_thumbnails(0),
            )
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            raise DataError(f"{path} isn't an index that Raylight wrote: {error}") from error


def build_index(
    source: Source, cache_dir: Path, workers: int, on_progress: Callable[[int], None] | None = None
) -> Index:
    """Reads every file of a data set that isn't known yet.

    Args:
        source: the files.
        cache_dir: where what is found is remembered, in ``index/``.
        workers: files read at a time.
        on_progress: told how many more files are done.

    Raises:
        DataError: ``cache_dir`` can't be written, or its disk is full.
    """
    folder = cache_dir / "index"
    paths = [file.path for file in source.files]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{_key(source)}.lock"):
            facts, thumbnails = _Memory(folder, _key(source)).refresh(source.root, paths, workers, on_progress)
    except OSError as error:
        raise DataError(
            f"cache_dir={cache_dir} can't be written: {error.strerror or error}. Make room, or choose another folder."
        ) from error
    table = pa.table(
        {
            "path": facts.column("path"),
            "label": [file.label for file in source.files],
            "group": pa.array([file.group for file in source.files], pa.string()),
            "split": pa.array([file.split for file in source.files], pa.string()),
            **{name: facts.column(name) for name in INDEX_SCHEMA.names[4:]},
        },
        schema=INDEX_SCHEMA,
    )
    return Index(source.root, source.class_names, source.positive_class, table.combine_chunks(), thumbnails)


def check_bad_fraction(index: Index, data: DataConfig) -> None:
    """Stops where too many files can't be used for the rest to be trusted.

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
                "Mend or remove them, or allow more with data.max_bad_fraction=SHARE.",
            ]
        )
    )


class _Facts(NamedTuple):
    """What reading a file shows; in the order of ``_FACTS``."""

    path: str
    mtime_ns: int
    bytes: int | None = None
    width: int | None = None
    height: int | None = None
    mode: str | None = None
    format: str | None = None
    sha256: str | None = None
    status: str = "bad"
    reason: str | None = None
    note: str | None = None


class _Known(NamedTuple):
    """Facts and thumbnails of some files, row by row."""

    facts: pa.Table
    thumbnails: UInt8[np.ndarray, "file 32 32 3"]

    def unchanged(
        self, root: Place, paths: Sequence[str], shown: Sequence[str], pool: ThreadPoolExecutor
    ) -> Int64[np.ndarray, " file"]:
        """The row that still holds for a file, or -1."""
        if not self.facts.num_rows:
            return np.full(len(paths), -1)
        found = pc.index_in(pa.array(shown, pa.string()), value_set=self.facts.column("path")).fill_null(-1)
        rows = np.array(found.to_numpy(), dtype=np.int64)
        now = np.array(_sizes_and_times(root, paths, pool), dtype=np.int64)
        before = [self.facts.column(name).fill_null(_NEVER).to_numpy() for name in ("bytes", "mtime_ns")]
        same = (np.stack(before, axis=1)[rows] == now).all(axis=1) & (now[:, 1] != _NEVER)
        return np.where((rows >= 0) & same, rows, -1)

    def look_at(
        self,
        root: Place,
        paths: Sequence[str],
        rows: Int64[np.ndarray, " file"],
        pool: ThreadPoolExecutor,
        on_progress: Callable[[int], None] | None,
    ) -> "_Known":
        """What is known of files whose rows are given, and what reading the others shows."""
        old, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
        thumbnails = _no_thumbnails(len(paths))
        thumbnails[old] = self.thumbnails[rows[old]]
        read: list[_Facts] = []
        parts = [new[start : start + _AT_ONCE] for start in range(0, len(new), _AT_ONCE)]
        looks = pool.map(lambda part: [_read_file(root, paths[position]) for position in part], parts)
        for part, seen in zip(parts, looks, strict=True):
            for position, (facts, thumbnail) in zip(part, seen, strict=True):
                read.append(facts)
                if thumbnail is not None:
                    thumbnails[position] = thumbnail
            if on_progress is not None:
                on_progress(len(part))
        columns = [pa.array([facts[number] for facts in read], field.type) for number, field in enumerate(_FACTS)]
        both = pa.concat_tables([self.facts.take(pa.array(rows[old])), pa.table(columns, schema=_FACTS)])
        return _Known(both.take(pa.array(np.argsort(np.concatenate([old, new])))), thumbnails)


@dataclass(frozen=True)
class _Memory:
    """What is known of a root: a Parquet file, and the thumbnails in a memory-mapped array that it names."""

    folder: Path
    key: str

    @property
    def _table(self) -> Path:
        return self.folder / f"{self.key}.parquet"

    def recall(self) -> _Known:
        """What was remembered; nothing where that is missing or damaged, since all of it can be found again."""
        try:
            facts = pq.read_table(self._table)
            name = facts.schema.metadata[b"thumbnails"].decode()
            thumbnails = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            if thumbnails.shape != (facts.num_rows, *_THUMBNAIL) or thumbnails.dtype != np.uint8:
                raise ValueError(f"{name} doesn't fit {self._table.name}")
            return _Known(facts.replace_schema_metadata(None).cast(_FACTS), thumbnails)
        except FileNotFoundError:
            pass
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            log.warning("%s is damaged (%s): all files are read anew", self._table, error)
        return _Known(_FACTS.empty_table(), _no_thumbnails(0))

    def refresh(
        self, root: Place, paths: Sequence[str], workers: int, on_progress: Callable[[int], None] | None
    ) -> _Known:
        """Facts and thumbnails of all files, in their order; only the new and the changed ones are read."""
        known = self.recall()
        shown = [printable(path) for path in paths]
        with ThreadPoolExecutor(max(1, workers)) as pool:
            rows = known.unchanged(root, paths, shown, pool)
            if on_progress is not None:
                on_progress(int((rows >= 0).sum()))
            if np.array_equal(rows, np.arange(known.facts.num_rows)):
                return known
            name = f"{self.key}-{uuid.uuid4().hex[:12]}.npy"
            facts = []
            # Written piece by piece: a full disk is an error here, where a memory map would crash the process.
            with _replacing(self.folder / name) as temporary, temporary.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *_THUMBNAIL)}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, len(paths), _WINDOW):
                    part = slice(start, start + _WINDOW)
                    some, thumbnails = known.look_at(root, paths[part], rows[part], pool, on_progress)
                    facts.append(some)
                    file.write(thumbnails.tobytes())
        table = pa.concat_tables(facts)
        with _replacing(self._table) as temporary:
            pq.write_table(table.replace_schema_metadata({b"thumbnails": name.encode()}), temporary)
        # Under the lock nobody else writes: what else bears the key is outdated, or was left by a kill.
        for stale in [*self.folder.glob(f"{self.key}-*.npy"), *self.folder.glob(f".{self.key}*")]:
            if stale.name != name:
                stale.unlink(missing_ok=True)
        return _Known(table, np.load(self.folder / name, mmap_mode="r", allow_pickle=False))


def _read_file(root: Place, path: str) -> tuple[_Facts, UInt8[np.ndarray, "32 32 3"] | None]:
    """Everything that the index holds of one file. What couldn't be read is looked at again the next time."""
    shown = printable(path)
    if shown != path:
        return _Facts(shown, _NEVER, reason="the name isn't valid UTF-8; rename the file"), None
    file = root / path
    try:
        status = file.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):
            return _Facts(path, _NEVER, reason="not a file"), None
        if size > LARGEST_FILE:
            return _Facts(path, mtime_ns, size, reason=f"{size:,} bytes: too large for a picture"), None
        data = file.read_bytes()
    except FileNotFoundError:
        return _Facts(path, _NEVER, reason="no such file"), None
    except OSError as error:
        return _Facts(path, _NEVER, reason=f"can't be read: {error.strerror or error}"), None
    facts = _Facts(
        path, mtime_ns if len(data) == size else _NEVER, len(data), sha256=hashlib.sha256(data).hexdigest()
    )._replace(**_header(data))
    try:
        thumbnail = decode_image(data, DecodeSpec(THUMBNAIL_SIZE, "stretch"))
    except BadImageError as error:
        return facts._replace(reason=str(error)), None
    if facts.note is None and str(facts.mode).startswith("I;16") and thumbnail.max() < 16:
        facts = facts._replace(note="of its 16 bits only the lower 12 are used, so that it is nearly black")
    return facts._replace(status="ok"), thumbnail


def _header(data: bytes) -> dict[str, Any]:
    """Size, mode, format and note as the header has them; nothing where it can't be made out."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data), formats=("JPEG", *FORMATS)) as picture:
            return {
                "width": picture.width,
                "height": picture.height,
                "mode": picture.mode,
                "format": "JPEG" if picture.format == "MPO" else picture.format,
                # The further pictures of a JPEG are previews of the first one.
                "note": "only the first of its pictures is used (an animation, or pages)"
                if picture.format != "MPO" and getattr(picture, "is_animated", False)
                else None,
            }
    except Exception:  # whatever is wrong with the file, decoding it gives the reason
        return {}


def _sizes_and_times(root: Place, paths: Sequence[str], pool: ThreadPoolExecutor) -> list[tuple[int, int]]:
    """Size and time of each file; elsewhere one listing tells them all, where asking for each would take a call each."""
    if isinstance(root, RemotePath):
        found = root.entries(recursive=True)
        return [(found[path].st_size, found[path].st_mtime_ns) if path in found else (_NEVER, _NEVER) for path in paths]
    parts = (paths[start : start + 256] for start in range(0, len(paths), 256))
    looks = pool.map(lambda part: [_size_and_time(root / path) for path in part], parts)
    return [look for part in looks for look in part]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # reading the file gives the reason
        return _NEVER, _NEVER
    return status.st_size, status.st_mtime_ns


def _key(source: Source) -> str:
    """Names what is remembered: where the files are, how they were found, which code looked at them."""
    parts = [str(source.root), source.layout, _MEMORY_VERSION, CODE_VERSION, RESIZER]
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:20]


def _no_thumbnails(count: int) -> UInt8[np.ndarray, "file 32 32 3"]:
    return np.zeros((count, *_THUMBNAIL), dtype=np.uint8)


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name, which becomes ``path`` when what is written under it is whole."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}.", suffix=".tmp", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        sync(temporary)  # else a power failure may leave zeros under the name, which pass for blank pictures
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
