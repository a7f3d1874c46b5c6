"""Reading each file of a data set once: status, size, hash, thumbnail; cached per root.

Each file is hashed, its header is parsed, and it is decoded to a thumbnail, which also finds broken files. A file with the
same size and modification time as before isn't read again. Not here: labels and splits (``index``), decoding (``decode/``).
"""

import hashlib
import io
import logging
import secrets
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

from raylight.data.decode.dicom import dicom_header, is_dicom, patient_of
from raylight.data.decode.image import CODE_VERSION, FORMATS, READERS, decode_image, pillow_image
from raylight.data.decode.resizing import RESIZER
from raylight.data.decode.signatures import uses_12_of_16_bits
from raylight.data.decode.spec import DecodeSpec
from raylight.data.names import printable
from raylight.errors import BadImageError
from raylight.storage.atomic import atomic_file, write_atomically
from raylight.storage.packed import NO_SIZE
from raylight.storage.remote import AnyPath

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
        ("patient", pa.string()),
    ]
)
"""Columns of a scan. ``width`` and ``height`` are as stored, before any rotation; ``mode`` and ``format`` are Pillow's names;
``status`` is ok or bad; ``reason`` says why a file is bad, ``note`` names a peculiarity of a good one; ``patient`` is a hash
of a DICOM file's patient, keyed with a secret of this machine, and never leaves the cache (see ``index.py``)."""

THUMBNAIL_SIZE = 32
LARGEST_FILE = 500_000_000
"""Bytes; larger files are rejected without reading them into memory."""

_CACHE_VERSION = 4
_THUMBNAIL = (THUMBNAIL_SIZE, THUMBNAIL_SIZE, 3)
_PALE = 224
"""15 of 255 of an ink, of black and of transparency together darken white to 225, which is still above this."""
_UNKNOWN = -1
"""Size or modification time of a file that has to be read again."""
_BLOCK = 2048
"""Files whose thumbnails are in memory at a time."""
_FILES_PER_TASK = 8
"""With one file per task of a thread, scheduling would take a sixth of the time."""

log = logging.getLogger(__name__)


def scan_files(
    root: AnyPath,
    layout: str,
    paths: Sequence[str],
    folder: Path,
    workers: int,
    on_progress: Callable[[int], None] | None = None,
) -> "Scan":
    """Scans files, but reads only those that are new or have changed.

    Args:
        root: folder that paths are relative to.
        layout: of the data set; each layout of a root has a cache of its own.
        paths: of the files, relative to the root.
        folder: where scans are cached.
        workers: number of files read in parallel.
        on_progress: called with the number of files done since the last call.

    Returns:
        Facts and thumbnails, in the order of ``paths``.

    Raises:
        OSError: the folder can't be written, or its disk is full.
    """
    key = _key(root, layout)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        return _ScanCache(folder, key, _secret(folder)).refresh(root, paths, workers, on_progress)


class _Facts(NamedTuple):
    """Facts about one file, in the order of ``FACTS``."""

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
    patient: str | None = None


class Scan(NamedTuple):
    """Facts about files, with the columns of ``FACTS``, and their thumbnails, row by row."""

    facts: pa.Table
    thumbnails: UInt8[np.ndarray, "file 32 32 3"]

    def unchanged(self, root: AnyPath, paths: Sequence[str], pool: ThreadPoolExecutor) -> Int64[np.ndarray, " file"]:
        """Finds the files that haven't changed since this scan.

        Args:
            root: folder that paths are relative to.
            paths: of the files.
            pool: threads to ask for sizes and modification times.

        Returns:
            The row of each unchanged file; -1 for new and changed ones.
        """
        if not self.facts.num_rows:
            return np.full(len(paths), -1)
        names = pa.array([printable(path) for path in paths], pa.string())
        found = pc.index_in(names, value_set=self.facts.column("path")).fill_null(-1)
        rows = np.array(found.to_numpy(), dtype=np.int64)
        now = np.array(_sizes_and_times(root, paths, pool), dtype=np.int64)
        columns = [self.facts.column(name).fill_null(_UNKNOWN).to_numpy() for name in ("bytes", "mtime_ns")]
        before = np.stack(columns, axis=1)[rows]
        same = ((before == now) | (now[:, :1] == NO_SIZE) & [True, False]).all(axis=1) & (now[:, 1] != _UNKNOWN)
        return np.where((rows >= 0) & same, rows, -1)

    def scan(
        self,
        root: AnyPath,
        paths: Sequence[str],
        rows: Int64[np.ndarray, " file"],
        pool: ThreadPoolExecutor,
        on_progress: Callable[[int], None] | None,
        secret: bytes,
    ) -> "Scan":
        """Scans some files; those that this scan has a row of aren't read.

        Args:
            root: folder that paths are relative to.
            paths: of the files.
            rows: row of each file in this scan; -1 for files to read.
            pool: threads to read with.
            on_progress: called with the number of files read since the last call.
            secret: key of the patients' hashes.

        Returns:
            A scan of these files, in their order.
        """
        old, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
        thumbnails = blank_thumbnails(len(paths))
        thumbnails[old] = self.thumbnails[rows[old]]
        read: list[_Facts] = []
        parts = [new[start : start + _FILES_PER_TASK] for start in range(0, len(new), _FILES_PER_TASK)]
        results = pool.map(lambda part: [_read_file(root, paths[position], secret) for position in part], parts)
        for part, result in zip(parts, results, strict=True):
            for position, (facts, thumbnail) in zip(part, result, strict=True):
                read.append(facts)
                if thumbnail is not None:
                    thumbnails[position] = thumbnail
            if on_progress is not None:
                on_progress(len(part))
        columns = [pa.array([facts[number] for facts in read], field.type) for number, field in enumerate(FACTS)]
        table = pa.concat_tables([self.facts.take(pa.array(rows[old])), pa.table(columns, schema=FACTS)])
        return Scan(table.take(pa.array(np.argsort(np.concatenate([old, new])))), thumbnails)


@dataclass(frozen=True)
class _ScanCache:
    """The cached scan of a root: a Parquet file, and the memory-mapped array of thumbnails that it names."""

    folder: Path
    key: str
    secret: bytes

    @property
    def _table(self) -> Path:
        return self.folder / f"{self.key}.parquet"

    def load(self) -> Scan:
        """The cached scan; an empty one if it is missing or damaged, since files can be read again."""
        try:
            facts = pq.read_table(self._table)
            name = facts.schema.metadata[b"thumbnails"].decode()
            thumbnails = np.load(self.folder / name, mmap_mode="r", allow_pickle=False)
            if thumbnails.shape != (facts.num_rows, *_THUMBNAIL) or thumbnails.dtype != np.uint8:
                raise ValueError(f"{name} doesn't fit {self._table.name}")
            return Scan(facts.replace_schema_metadata(None).cast(FACTS), thumbnails)
        except FileNotFoundError:
            pass
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            log.warning("%s is damaged (%s): reading all files again", self._table, error)
        return Scan(FACTS.empty_table(), blank_thumbnails(0))

    def refresh(
        self, root: AnyPath, paths: Sequence[str], workers: int, on_progress: Callable[[int], None] | None
    ) -> Scan:
        """A scan of all files, in their order; only new and changed ones are read."""
        known = self.load()
        with ThreadPoolExecutor(max(1, workers)) as pool:
            rows = known.unchanged(root, paths, pool)
            if on_progress is not None:
                on_progress(int((rows >= 0).sum()))
            if np.array_equal(rows, np.arange(known.facts.num_rows)):
                return known
            name = f"{self.key}-{uuid.uuid4().hex[:12]}.npy"
            facts = []
            # Written block by block: on a full disk, a write raises, whereas a memory map would crash the process.
            with atomic_file(self.folder / name) as temporary, temporary.open("wb") as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *_THUMBNAIL)}
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, len(paths), _BLOCK):
                    part = slice(start, start + _BLOCK)
                    block = known.scan(root, paths[part], rows[part], pool, on_progress, self.secret)
                    facts.append(block.facts)
                    file.write(block.thumbnails.tobytes())
        table = pa.concat_tables(facts)
        with atomic_file(self._table) as temporary:
            pq.write_table(table.replace_schema_metadata({b"thumbnails": name.encode()}), temporary)
        # The lock is held, so other files with this key are outdated, or left by a killed process.
        for stale in [*self.folder.glob(f"{self.key}-*.npy"), *self.folder.glob(f".{self.key}*")]:
            if stale.name != name:
                stale.unlink(missing_ok=True)
        return Scan(table, np.load(self.folder / name, mmap_mode="r", allow_pickle=False))


def _secret(folder: Path) -> bytes:
    """The key of the patients' hashes, made on first use. If it is lost, files scanned before keep their old hashes."""
    file = folder.with_name("patients.key")
    with FileLock(folder.with_name("patients.key.lock")):
        if not file.is_file():
            write_atomically(file, secrets.token_bytes(32))
        return file.read_bytes()


def _read_file(root: AnyPath, path: str, secret: bytes) -> tuple[_Facts, UInt8[np.ndarray, "32 32 3"] | None]:
    """Facts about one file, and its thumbnail. A file that couldn't be read is tried again the next time."""
    name = printable(path)
    if name != path:
        return _Facts(name, _UNKNOWN, reason="the name isn't valid UTF-8; rename the file"), None
    file = root / path
    try:
        status = file.stat()
        size, mtime_ns = status.st_size, status.st_mtime_ns
        if not stat.S_ISREG(status.st_mode):
            return _Facts(path, _UNKNOWN, reason="not a file"), None
        if size > LARGEST_FILE:
            return _Facts(path, mtime_ns, size, reason=f"{size:,} bytes: too large for an image"), None
        data = file.read_bytes()
    except FileNotFoundError:
        return _Facts(path, _UNKNOWN, reason="no such file"), None
    except OSError as error:
        return _Facts(path, _UNKNOWN, reason=f"can't be read: {error.strerror or error}"), None
    facts = _Facts(
        path, mtime_ns if size in (len(data), NO_SIZE) else _UNKNOWN, len(data), sha256=hashlib.sha256(data).hexdigest()
    )._replace(**_header(data))
    try:
        thumbnail = decode_image(data, DecodeSpec(THUMBNAIL_SIZE, "stretch"))
    except BadImageError as error:
        return facts._replace(reason=str(error)), None
    if is_dicom(data):
        facts = facts._replace(patient=patient_of(data, secret))
    if facts.note is None and (thumbnail.max() < 16 or thumbnail.min() > _PALE) and uses_12_of_16_bits(data):
        looks = "nearly black" if thumbnail.max() < 16 else "nearly white"
        facts = facts._replace(note=f"{looks}: only the lower 12 of its 16 bits are used")
    return facts._replace(status="ok"), thumbnail


def _header(data: bytes) -> dict[str, Any]:
    """Size, mode, format and note from the header; empty if it can't be read."""
    try:
        if is_dicom(data) and "pydicom" in READERS:
            return dicom_header(data)
        with pillow_image().open(io.BytesIO(data), formats=("JPEG", *FORMATS)) as picture:
            return {
                "width": picture.width,
                "height": picture.height,
                "mode": picture.mode,
                "format": "JPEG" if picture.format == "MPO" else picture.format,
                # Further images in a JPEG file are previews of the first one.
                "note": "only the first of its frames or pages is used"
                if picture.format != "MPO" and getattr(picture, "is_animated", False)
                else None,
            }
    except Exception:  # decoding the file then gives the reason
        return {}


def _sizes_and_times(root: AnyPath, paths: Sequence[str], pool: ThreadPoolExecutor) -> list[tuple[int, int]]:
    """Size and modification time of each file; from one listing of a remote root instead of a request per file."""
    if not isinstance(root, Path):
        found = root.entries(recursive=True)
        missing = (_UNKNOWN, _UNKNOWN)
        return [(found[path].st_size, found[path].st_mtime_ns) if path in found else missing for path in paths]
    parts = (paths[start : start + 256] for start in range(0, len(paths), 256))
    results = pool.map(lambda part: [_size_and_time(root / path) for path in part], parts)
    return [result for part in results for result in part]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # reading the file then gives the reason
        return _UNKNOWN, _UNKNOWN
    return status.st_size, status.st_mtime_ns


def _key(root: AnyPath, layout: str) -> str:
    """Name of a root's cached scan."""
    parts = [str(root), layout, _CACHE_VERSION, CODE_VERSION, RESIZER, READERS]
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:20]


def blank_thumbnails(count: int) -> UInt8[np.ndarray, "file 32 32 3"]:
    """Black thumbnails, for files that can't be decoded."""
    return np.zeros((count, *_THUMBNAIL), dtype=np.uint8)
