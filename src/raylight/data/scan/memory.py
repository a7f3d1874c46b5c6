"""The scan of a data set: status, size, hash, thumbnail of each file; cached per root.

A file with the same size and modification time as before isn't read again. Where none is known and pixels are wanted, the same
pass decodes them and leaves an image cache. Not here: reading one file (``scan.files``), labels and splits (``index``).
"""

import contextlib
import hashlib
import itertools
import logging
import secrets
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock
from jaxtyping import Int64, UInt8

from raylight.data.cache_building import exclusive, first_positions, missing_bytes, publish, temporary
from raylight.data.cache_files import PixelFile
from raylight.data.decode.blocks import THREADS, Engine
from raylight.data.decode.image import CODE_VERSION, READERS
from raylight.data.decode.jpeg import RESIZER
from raylight.data.decode.spec import DecodeSpec
from raylight.data.names import printable
from raylight.data.scan.files import FACTS, THUMBNAIL, UNKNOWN, ScannedFile, scan_file
from raylight.data.scan.with_ray import scan_with_ray
from raylight.machine import keep_freed_memory
from raylight.storage.atomic import atomic_file, write_atomically
from raylight.storage.packed import NO_SIZE
from raylight.storage.remote import AnyPath

_CACHE_VERSION = 5
_BLOCK = 2048
"""Files whose thumbnails are in memory at a time."""
_FILES_PER_TASK = 8
"""With one file per task of a thread, scheduling would take a sixth of the time."""

log = logging.getLogger(__name__)


class Files(NamedTuple):
    """The files of a data set: the folder that paths are relative to, the layout, and the paths.

    Each layout of a root has a cache of its own.
    """

    root: AnyPath
    layout: str
    paths: Sequence[str]


@dataclass(frozen=True)
class Decoding:
    """The images that are decoded while files are read for the first time.

    Attributes:
        spec: shape of each image.
        on_progress: called with the number of files decoded so far, 0 to begin with, and the total.
        engine: what reads and decodes these files; threads are as many as ``Reading`` has.
    """

    spec: DecodeSpec
    on_progress: Callable[[int, int], None] = lambda done, total: None
    engine: Engine = THREADS


@dataclass(frozen=True)
class Reading:
    """How files are read.

    Attributes:
        workers: number of files read in parallel.
        on_progress: called with the number of files done since the last call.
        decoding: what is decoded where no file is known from before; ``None`` decodes nothing.
    """

    workers: int
    on_progress: Callable[[int], None] = lambda more: None
    decoding: Decoding | None = None


def scan_files(files: Files, cache_dir: Path, reading: Reading) -> "Scan":
    """Scans files, but reads only those that are new or have changed.

    Args:
        files: the files.
        cache_dir: scans are cached below ``index``, decoded images below ``images``.
        reading: how they are read.

    Returns:
        Facts and thumbnails, in the order of the files.

    Raises:
        OSError: the folder can't be written, or its disk is full.
    """
    folder = cache_dir / "index"
    key = _key(files)
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / f"{key}.lock"):
        return _ScanCache(folder, key, _secret(folder)).refresh(files, reading)


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
        columns = [self.facts.column(name).fill_null(UNKNOWN).to_numpy() for name in ("bytes", "mtime_ns")]
        before = np.stack(columns, axis=1)[rows]
        same = ((before == now) | (now[:, :1] == NO_SIZE) & [True, False]).all(axis=1) & (now[:, 1] != UNKNOWN)
        return np.where((rows >= 0) & same, rows, -1)

    def replaced(self, rows: Int64[np.ndarray, " file"], read: Sequence[ScannedFile]) -> "Scan":
        """A scan of some of these files and of some that have been read anew.

        Args:
            rows: row of each file in this scan; -1 for the next of the files that have been read.
            read: those, in order.

        Returns:
            A scan of all of them, in the order of ``rows``.
        """
        old, new = np.flatnonzero(rows >= 0), np.flatnonzero(rows < 0)
        thumbnails = blank_thumbnails(len(rows))
        thumbnails[old] = self.thumbnails[rows[old]]
        for position, file in zip(new, read, strict=True):
            if file.thumbnail is not None:
                thumbnails[position] = file.thumbnail
        columns = [pa.array([file.facts[number] for file in read], field.type) for number, field in enumerate(FACTS)]
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
            if thumbnails.shape != (facts.num_rows, *THUMBNAIL.image_shape) or thumbnails.dtype != np.uint8:
                raise ValueError(f"{name} doesn't fit {self._table.name}")
            return Scan(facts.replace_schema_metadata(None).cast(FACTS), thumbnails)
        except FileNotFoundError:
            pass
        except (OSError, pa.ArrowException, KeyError, TypeError, ValueError) as error:
            log.warning("%s is damaged (%s): reading all files again", self._table, error)
        return Scan(FACTS.empty_table(), blank_thumbnails(0))

    def refresh(self, files: Files, reading: Reading) -> Scan:
        """A scan of all files, in their order; only new and changed ones are read."""
        root, _, paths = files
        known = self.load()
        with ThreadPoolExecutor(max(1, reading.workers), thread_name_prefix="scan") as pool:
            rows = known.unchanged(root, paths, pool)
            if any_known := bool((rows >= 0).any()):
                reading.on_progress(int((rows >= 0).sum()))
            if np.array_equal(rows, np.arange(known.facts.num_rows)):
                return known
            name = f"{self.key}-{uuid.uuid4().hex[:12]}.npy"
            with contextlib.ExitStack() as stack:
                pixels = None if any_known else stack.enter_context(self._pixels(len(paths), reading.decoding))
                read = stack.enter_context(
                    contextlib.closing(self._read(files, np.flatnonzero(rows < 0), pool, reading, pixels))
                )
                facts = []
                # Written block by block: on a full disk, a write raises, whereas a memory map would crash the process.
                with atomic_file(self.folder / name) as temporary, temporary.open("wb") as file:
                    header = {"descr": "|u1", "fortran_order": False, "shape": (len(paths), *THUMBNAIL.image_shape)}
                    np.lib.format.write_array_header_1_0(file, header)
                    for start in range(0, len(paths), _BLOCK):
                        part = slice(start, start + _BLOCK)
                        new = int((rows[part] < 0).sum())
                        block = known.replaced(rows[part], list(itertools.islice(read, new)))
                        facts.append(block.facts)
                        file.write(block.thumbnails.tobytes())
                    next(read, None)  # ends it, so that Ray's session closes in the background
                table = pa.concat_tables(facts)
                if pixels is not None:
                    usable = pc.if_else(pc.equal(table.column("status"), "ok"), table.column("sha256"), None)
                    publish(pixels, first_positions(usable.to_pylist()))
        with atomic_file(self._table) as temporary:
            pq.write_table(table.replace_schema_metadata({b"thumbnails": name.encode()}), temporary)
        # The lock is held, so other files with this key are outdated, or left by a killed process.
        for stale in [*self.folder.glob(f"{self.key}-*.npy"), *self.folder.glob(f".{self.key}*")]:
            if stale.name != name:
                stale.unlink(missing_ok=True)
        return Scan(table, np.load(self.folder / name, mmap_mode="r", allow_pickle=False))

    @contextlib.contextmanager
    def _pixels(self, count: int, decoding: Decoding | None) -> Iterator[PixelFile | None]:
        """A file for the pixels of all files; ``None`` if none are wanted, or the disk is too small for those of all."""
        if decoding is None:
            yield None
            return
        images = self.folder.with_name("images")
        images.mkdir(exist_ok=True)
        name = images / f"scan-{self.key}"
        with exclusive(name), temporary(name) as folder:
            if missing_bytes(images, count, decoding.spec):
                yield None
                return
            with PixelFile(folder, count, decoding.spec) as pixels:
                yield pixels

    def _read(
        self,
        files: Files,
        positions: Int64[np.ndarray, " new"],
        pool: ThreadPoolExecutor,
        reading: Reading,
        pixels: PixelFile | None,
    ) -> Generator[ScannedFile]:
        """Reads some files, all of them where there are pixels to store."""
        decoding = reading.decoding if pixels is not None else None
        if decoding is not None:
            decoding.on_progress(0, len(files.paths))  # before Ray starts, which takes seconds
        if pixels is not None and decoding is not None and decoding.engine.name == "ray":
            parts = scan_with_ray(files.root, files.paths, self.secret, pixels, decoding.engine)
        else:
            parts = self._with_threads(files, positions, pool, pixels)
        done = 0
        with contextlib.closing(parts):
            for part in parts:
                done += len(part)
                reading.on_progress(len(part))
                if pixels is not None and decoding is not None:
                    pixels.flush()
                    decoding.on_progress(done, len(files.paths))
                yield from part

    def _with_threads(
        self, files: Files, positions: Int64[np.ndarray, " new"], pool: ThreadPoolExecutor, pixels: PixelFile | None
    ) -> Generator[list[ScannedFile]]:
        keep_freed_memory()

        def read(part: Int64[np.ndarray, " file"]) -> list[ScannedFile]:
            return [_read_file(files, position, self.secret, pixels) for position in part.tolist()]

        for block in range(0, len(positions), _BLOCK):
            stop = min(block + _BLOCK, len(positions))
            parts = [
                positions[start : min(start + _FILES_PER_TASK, stop)] for start in range(block, stop, _FILES_PER_TASK)
            ]
            yield from pool.map(read, parts)


def _secret(folder: Path) -> bytes:
    """The key of the patients' hashes, made on first use. If it is lost, files scanned before keep their old hashes."""
    file = folder.with_name("patients.key")
    with FileLock(folder.with_name("patients.key.lock")):
        if not file.is_file():
            write_atomically(file, secrets.token_bytes(32))
        return file.read_bytes()


def _read_file(files: Files, position: int, secret: bytes, pixels: PixelFile | None) -> ScannedFile:
    """Reads one file and stores its pixels, which needn't stay in memory then."""
    file = scan_file(files.root, files.paths[position], secret, pixels.spec if pixels is not None else None)
    return file if pixels is None else file.stored(position, pixels)


def _sizes_and_times(root: AnyPath, paths: Sequence[str], pool: ThreadPoolExecutor) -> list[tuple[int, int]]:
    """Size and modification time of each file; from one listing of a remote root instead of a request per file."""
    if not isinstance(root, Path):
        found = root.entries(recursive=True)
        missing = (UNKNOWN, UNKNOWN)
        return [(found[path].st_size, found[path].st_mtime_ns) if path in found else missing for path in paths]
    parts = (paths[start : start + 256] for start in range(0, len(paths), 256))
    results = pool.map(lambda part: [_size_and_time(root / path) for path in part], parts)
    return [result for part in results for result in part]


def _size_and_time(path: Path) -> tuple[int, int]:
    try:
        status = path.stat()
    except OSError:  # reading the file then gives the reason
        return UNKNOWN, UNKNOWN
    return status.st_size, status.st_mtime_ns


def _key(files: Files) -> str:
    """Name of a root's cached scan."""
    parts = [str(files.root), files.layout, _CACHE_VERSION, CODE_VERSION, RESIZER, READERS]
    return hashlib.sha256(repr(parts).encode("utf-8", "backslashreplace")).hexdigest()[:20]


def blank_thumbnails(count: int) -> UInt8[np.ndarray, "file 32 32 3"]:
    """Black thumbnails, for files that can't be decoded."""
    return np.zeros((count, *THUMBNAIL.image_shape), dtype=np.uint8)
