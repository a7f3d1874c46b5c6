"""What reading each file shows: whether it can be used, its size, its hash, a small picture; remembered for each root.

Each file is read once: hashed, its header noted, decoded to a small picture, which also finds the broken ones. A file
whose size and modification time are unchanged isn't read again. Not here: labels and splits (``index.py``), and how
pixels are decoded (``decode.py``).
"""

import hashlib
import io
import logging
import stat
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from jaxtyping import Int64, UInt8

from raylight.data.decode.image import CODE_VERSION, FORMATS, RESIZER, DecodeSpec, decode_image
from raylight.data.names import printable
from raylight.errors import BadImageError
from raylight.storage.atomic import appearing_whole
from raylight.storage.remote import Place, RemotePath

FACTS = pa.schema(
    [
        ("path", pa.string()),
        ("mtime_ns", pa.int64()),
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
"""Columns of what is known of files. ``width`` and ``height`` are as stored, before any rotation; ``mode`` and ``format`` as
Pillow calls them; ``status`` is ok or bad; ``reason`` says why a file is bad, ``note`` what is odd about a good one."""

THUMBNAIL_SIZE = 32
LARGEST_FILE = 500_000_000
"""Bytes. What is larger isn't a picture that anybody trains on, and isn't read into memory."""

_MEMORY_VERSION = 2
_THUMBNAIL = (THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)
_NEVER = -1
_WINDOW = 2048
_AT_ONCE = 8
"""Files that a thread reads in a row: handing over each by itself takes a sixth of the time."""

log = logging.getLogger(__name__)


def scan_files(
    root: Place,
    layout: str,
    paths: Sequence[str],
    folder: Path,
    workers: int,
    on_progress: Callable[[int], None] | None = None,
) -> "Known":
    """Facts and thumbnails of files, in their order; only those that are new or have changed are read.

    Args:
        root: that paths are relative to.
        layout: how the files were found; each layout of a root is remembered by itself.
        paths: of the files.
        folder: where what is found is remembered.
        workers: files read at a time.
        on_progress: told how many more files are done.

    Raises:
        OSError: the folder can't be written, or its disk is full.
    """
    key = _key(root, layout)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        return _Memory(folder, key).refresh(root, paths, workers, on_progress)


class _Facts(NamedTuple):
    """What reading a file shows; in the order of ``FACTS``."""

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


class Known(NamedTuple):
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
    ) -> "Known":
        """What is known of files whose rows are given, and what reading the others shows."""
        old, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
        thumbnails = no_thumbnails(len(paths))
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
        columns = [pa.array([facts[number] for facts in read], field.type) for number, field in enumerate(FACTS)]
        both = pa.concat_tables([self.facts.take(pa.array(rows[old])), pa.table(columns, schema=FACTS)])
        return Known(both.take(pa.array(np.argsort(np.concatenate([old, new])))), thumbnails)


@dataclass(frozen=True)
class _Memory:
    """What is known of a root: a Parquet file, and the thumbnails in a memory-mapped array that it names."""

    folder: Path
    key: str

    @property
    def _table(self) -> Path:
        return self.folder / f"{self.key}.parquet"

    def recall(self) -> Known:
        """What was remembered; nothing where that is missing or damaged, since all of it can be found again."""
        try:
            facts = pq.read_table(self._table)
            name = facts.schema.metadata[b"thumbnails"].decode()
            thumbnails = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            if thumbnails.shape != (facts.num_rows, *_THUMBNAIL) or thumbnails.dtype != np.uint8:
                raise ValueError(f"{name} doesn't fit {self._table.name}")
            return Known(facts.replace_schema_metadata(None).cast(FACTS), thumbnails)
        except FileNotFoundError:
            pass
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            log.warning("%s is damaged (%s): all files are read anew", self._table, error)
        return Known(FACTS.empty_table(), no_thumbnails(0))

    def refresh(
        self, root: Place, paths: Sequence[str], workers: int, on_progress: Callable[[int], None] | None
    ) -> Known:
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
            with appearing_whole(self.folder / name) as temporary, temporary.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *_THUMBNAIL)}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, len(paths), _WINDOW):
                    part = slice(start, start + _WINDOW)
                    some, thumbnails = known.look_at(root, paths[part], rows[part], pool, on_progress)
                    facts.append(some)
                    file.write(thumbnails.tobytes())
        table = pa.concat_tables(facts)
        with appearing_whole(self._table) as temporary:
            pq.write_table(table.replace_schema_metadata({b"thumbnails": name.encode()}), temporary)
        # Under the lock nobody else writes: what else bears the key is outdated, or was left by a kill.
        for stale in [*self.folder.glob(f"{self.key}-*.npy"), *self.folder.glob(f".{self.key}*")]:
            if stale.name != name:
                stale.unlink(missing_ok=True)
        return Known(table, np.load(self.folder / name, mmap_mode="r", allow_pickle=False))


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


def _key(root: Place, layout: str) -> str:
    """Names what is remembered: where the files are, how they were found, which code looked at them."""
    parts = [str(root), layout, _MEMORY_VERSION, CODE_VERSION, RESIZER]
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:20]


def no_thumbnails(count: int) -> UInt8[np.ndarray, "file 32 32 3"]:
    """As many black pictures, for what has none."""
    return np.zeros((count, *_THUMBNAIL), dtype=np.uint8)
