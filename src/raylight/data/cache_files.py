"""Writing, reading and checking the two files of an image cache.

    pixels.npy     uint8[image, height, width, 3], opened as a memory map
    images.arrow   sha256, and the row in pixels.npy or the reason why there is none

Not here: names, locks and the decision to build (:mod:`raylight.data.cache`).
"""

import errno
import io
import os
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Final, Self

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8

from raylight.data.decode.blocks import TRANSIENT_REASONS, DecodedBlock, Destination, Engine
from raylight.data.decode.engines import decode_files
from raylight.data.decode.spec import DecodeSpec
from raylight.storage.atomic import sync

PIXELS: Final = "pixels.npy"
SIDECAR: Final = "images.arrow"
SIDECAR_SCHEMA: Final = pa.schema([("sha256", pa.string()), ("row", pa.int64()), ("reason", pa.string())])

_SYNC_EVERY: Final = 256_000_000
"""Bytes after which written data is flushed to disk, so that dirty pages don't fill the memory."""


def read_cache(
    folder: Path, digests: Sequence[str], spec: DecodeSpec
) -> tuple[UInt8[np.ndarray, "image height width 3"], dict[str, int], dict[str, str]]:
    """Opens the files of a cache and checks that they are complete and hold the right images.

    Args:
        folder: of the cache.
        digests: SHA-256 of each distinct file content, sorted.
        spec: shape of each image.

    Returns:
        The pixels, 0 to 255, mapped read-only; the row of each image, by SHA-256; the reason why a file has no row, by SHA-256.

    Raises:
        ValueError: the files are damaged or belong to other images.
        OSError: a file is missing or can't be read.
    """
    with pa.OSFile(str(folder / SIDECAR)) as file, pa.ipc.open_file(file) as reader:
        table = reader.read_all()
    if table.schema != SIDECAR_SCHEMA or table["sha256"].to_pylist() != list(digests):
        raise ValueError(f"{SIDECAR} lists other images")
    entries = list(zip(digests, table["row"].to_pylist(), table["reason"].to_pylist(), strict=True))
    if any((row is None) == (reason is None) for _, row, reason in entries):
        raise ValueError(f"{SIDECAR} has an image with neither a row nor a reason, or both")
    rows = {digest: row for digest, row, _ in entries if row is not None}
    rejected = {digest: reason for digest, row, reason in entries if row is None}
    if sorted(rows.values()) != list(range(len(rows))):
        raise ValueError(f"{SIDECAR} doesn't name each row of {PIXELS} once")
    shape = (len(rows), *spec.image_shape)
    header = _header(shape)
    with (folder / PIXELS).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(len(header)) != header or size != len(header) + np.prod(shape, dtype=np.int64):
            raise ValueError(f"{PIXELS} isn't uint8{list(shape)}, or is truncated: {size:,} bytes")
    return np.load(folder / PIXELS, mmap_mode="r"), rows, rejected


class PixelFile:
    """The pixels of a cache while they are written: rows in any order, from several threads.

    A context; leaving it closes the file.

    Attributes:
        folder: of the cache.
        name: of the unfinished file; unique over all machines, since workers recognise the file by it.
        spec: shape of each image.
        refused: why a row stays empty.
    """

    def __init__(self, folder: Path, count: int, spec: DecodeSpec) -> None:
        """Makes the file and reserves its disk space.

        Args:
            folder: an empty folder.
            count: number of rows.
            spec: shape of each image.

        Raises:
            OSError: the disk is too small, or the folder can't be written.
        """
        self.folder, self.spec = folder, spec
        self.refused: dict[int, str] = {}
        self.name = folder / f"{uuid.uuid4().hex}.npy"
        self._header = _header((count, *spec.image_shape))
        self._unsynced = 0
        self._lock = threading.Lock()
        self._file = self.name.open("w+b", buffering=0)
        try:
            self._file.write(self._header)
            reserve(self._file, len(self._header) + count * spec.image_bytes)
        except BaseException:
            self._file.close()
            raise

    @property
    def offset(self) -> int:
        """Of the first row in the file, in bytes."""
        return len(self._header)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def write(self, row: int, pixels: UInt8[np.ndarray, "..."]) -> None:
        """Writes one image, or several to adjacent rows.

        Not through a memory map: on a full disk, a write raises, whereas touching a mapped page kills the process.

        Args:
            row: of the first image.
            pixels: RGB, 0 to 255.

        Raises:
            OSError: the disk is full.
        """
        content = np.ascontiguousarray(pixels).data.cast("B")
        place = self.offset + row * self.spec.image_bytes
        self._unsynced += len(content)
        while content:
            written = self._write_at(content, place)
            content, place = content[written:], place + written

    def _write_at(self, content: memoryview, place: int) -> int:
        if hasattr(os, "pwrite"):
            return os.pwrite(self._file.fileno(), content, place)
        with self._lock:  # Windows can't write at an offset
            self._file.seek(place)
            return int(self._file.write(content))

    def refuse(self, row: int, reason: str) -> None:
        """Notes why a row stays empty.

        Args:
            row: of the image.
            reason: why its file can't be used.
        """
        self.refused[row] = reason

    def written(self, images: int) -> None:
        """Counts images that others have written.

        Args:
            images: number of them.
        """
        self._unsynced += images * self.spec.image_bytes

    def flush(self) -> None:
        """Syncs to disk if much has been written since the last time."""
        if self._unsynced >= _SYNC_EVERY:
            getattr(os, "fdatasync", os.fsync)(self._file.fileno())  # macOS and Windows have no fdatasync
            self._unsynced = 0

    def finish(self, rows: Mapping[str, int]) -> None:
        """Closes gaps, and writes both files, synced.

        Args:
            rows: row of each image, refused or not, by SHA-256; what is in other rows is dropped.

        Raises:
            OSError: the files can't be written.
        """
        reasons = {digest: self.refused[row] for digest, row in rows.items() if row in self.refused}
        final = without_gaps({digest: row for digest, row in without_gaps(rows).items() if digest not in reasons})
        for digest, row in final.items():
            if row != rows[digest]:
                self.write(row, self._read(rows[digest]))
        header = _header((len(final), *self.spec.image_shape))
        self._file.seek(0)
        self._file.write(header)
        self._file.truncate(len(header) + len(final) * self.spec.image_bytes)
        os.fsync(self._file.fileno())
        self._file.close()
        self.name.rename(self.folder / PIXELS)
        _write_sidecar(self.folder / SIDECAR, sorted(rows), final, reasons)
        sync(self.folder)

    def _read(self, row: int) -> UInt8[np.ndarray, " byte"]:
        pixels = np.empty(self.spec.image_bytes, np.uint8)
        self._file.seek(self.offset + row * self.spec.image_bytes)
        self._file.readinto(pixels.data)
        return pixels


def without_gaps(rows: Mapping[str, int]) -> dict[str, int]:
    """Gives the rows that nothing is in to the last images, so that few of them move.

    Args:
        rows: row of each image, by SHA-256.

    Returns:
        As many rows as there are images, from 0; in the order of rows.

    Example:
        >>> without_gaps({"a": 0, "b": 3, "c": 4})
        {'a': 0, 'b': 1, 'c': 2}
    """
    free = iter(sorted(set(range(len(rows))) - set(rows.values())))
    places = sorted((row, digest) for digest, row in rows.items())
    closed = {digest: row if row < len(rows) else next(free) for row, digest in places}
    return dict(sorted(closed.items(), key=lambda item: item[1]))


def write_cache(
    folder: Path,
    paths: Mapping[str, Sequence[Path | str]],
    spec: DecodeSpec,
    engine: Engine,
    on_progress: Callable[[int, int], None],
) -> None:
    """Decodes files and writes the two files of a cache, synced to disk, the same ones whichever engine decodes.

    Args:
        folder: an empty folder.
        paths: paths of the files with the same content, by SHA-256, in the order of rows; if one can't be read, the next is
            tried.
        spec: shape of each image.
        engine: what decodes.
        on_progress: called with the number of images decoded so far, and the total.

    Raises:
        OSError: the files can't be written.
    """
    with PixelFile(folder, len(paths), spec) as pixels:
        _decode_all(pixels, paths, engine, on_progress)
        pixels.finish({digest: row for row, digest in enumerate(paths)})


def _decode_all(
    pixels: PixelFile,
    paths: Mapping[str, Sequence[Path | str]],
    engine: Engine,
    on_progress: Callable[[int, int], None],
) -> None:
    """Writes each image to its row."""
    digests = list(paths)
    done = 0
    rows = np.arange(len(digests))
    for attempt in range(max(map(len, paths.values()))):
        wanted = [digests[row] for row in rows.tolist()]
        into = Destination(pixels.name, pixels.offset, rows)
        for block in decode_files([paths[digest][attempt] for digest in wanted], pixels.spec, engine, wanted, into):
            block_rows = rows[block.positions]
            if block.written:
                pixels.written(int(block.ok.sum()))
            else:
                _write_rows(pixels, block, block_rows[block.ok])
            for row, reason in zip(block_rows.tolist(), block.reasons, strict=True):
                if reason:
                    pixels.refuse(row, reason)
            pixels.flush()
            done += len(block.positions) if attempt == 0 else 0
            on_progress(done, len(digests))
        # If a file couldn't be read, another one with the same content perhaps can.
        again = [
            row
            for row in rows.tolist()
            if pixels.refused.get(row, "").startswith(TRANSIENT_REASONS) and len(paths[digests[row]]) > attempt + 1
        ]
        if not again:
            return
        rows = np.array(again)
        for row in again:
            del pixels.refused[row]


def _write_rows(pixels: PixelFile, block: DecodedBlock, rows: Int64[np.ndarray, " good"]) -> None:
    """Writes a block's images to their rows, adjacent rows with one call."""
    if not len(rows):
        return
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        pixels.write(int(rows[start]), block.pixels[start:stop])


def _write_sidecar(file: Path, digests: Sequence[str], rows: Mapping[str, int], reasons: Mapping[str, str]) -> None:
    columns = (
        list(digests),
        [rows.get(digest) for digest in digests],
        [reasons.get(digest) for digest in digests],
    )
    arrays = [pa.array(column, field.type) for column, field in zip(columns, SIDECAR_SCHEMA, strict=True)]
    with pa.OSFile(str(file), "wb") as output, pa.ipc.new_file(output, SIDECAR_SCHEMA) as writer:
        writer.write_table(pa.Table.from_arrays(arrays, schema=SIDECAR_SCHEMA))
    sync(file)


def _header(shape: tuple[int, ...]) -> bytes:
    """Header of a uint8 ``.npy`` file; numpy pads it to the same length for any number of rows."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def reserve(output: IO[bytes], size: int) -> None:
    """Allocates the disk space of a whole file up front, where the system can, instead of failing near the end.

    Args:
        output: a file open for writing.
        size: its final size, in bytes.

    Raises:
        OSError: the disk is too small.
    """
    try:
        os.posix_fallocate(output.fileno(), 0, size)
    except AttributeError:  # not on macOS and Windows
        output.truncate(size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
        output.truncate(size)
