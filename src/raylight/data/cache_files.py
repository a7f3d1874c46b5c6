"""Writing, reading and checking the two files of an image cache.

    pixels.npy     uint8[image, height, width, 3], opened as a memory map
    images.arrow   sha256, and the row in pixels.npy or the reason why there is none

Not here: names, locks and the decision to build (:mod:`raylight.data.cache`).
"""

import errno
import io
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt8

from raylight.data.decode.blocks import TRANSIENT_REASONS, DecodedBlock, Destination, Engine
from raylight.data.decode.engines import decode_files
from raylight.data.decode.spec import DecodeSpec
from raylight.storage.atomic import sync
from raylight.storage.packed import SCHEME

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


def write_cache(
    folder: Path,
    paths: Mapping[str, Sequence[Path | str]],
    spec: DecodeSpec,
    engine: Engine,
    on_progress: Callable[[int, int], None],
) -> None:
    """Decodes files and writes the two files of a cache, synced to disk.

    Rows are in the order of the digests, whichever engine decodes them. The rows of rejected files are filled with the last
    images.

    Args:
        folder: an empty folder.
        paths: paths of the files with the same content, by SHA-256; if one can't be read, the next is tried.
        spec: shape of each image.
        engine: what decodes.
        on_progress: called with the number of images decoded so far, and the total.

    Raises:
        OSError: the files can't be written.
    """
    digests = sorted(paths)
    unfinished = folder / f"{uuid.uuid4().hex}.npy"
    with unfinished.open("w+b") as output:
        header = _header((len(digests), *spec.image_shape))
        output.write(header)
        output.flush()
        reserve(output, len(header) + len(digests) * spec.image_bytes)
        reasons = _decode_all(output, len(header), paths, spec, engine, on_progress)
        rows = _close_gaps(output, digests, reasons, spec)
        output.flush()
        os.fsync(output.fileno())
    unfinished.rename(folder / PIXELS)
    _write_sidecar(folder / SIDECAR, digests, rows, reasons)
    sync(folder)


def _decode_all(
    output: BinaryIO,
    offset: int,
    paths: Mapping[str, Sequence[Path | str]],
    spec: DecodeSpec,
    engine: Engine,
    on_progress: Callable[[int, int], None],
) -> dict[str, str]:
    """Writes each image to the row of its digest; returns the reasons of those whose rows stay empty."""
    digests = sorted(paths)
    reasons: dict[str, str] = {}
    done = unsynced = 0
    rows = np.arange(len(digests))
    if str(next(iter(paths.values()))[0]).startswith(SCHEME):  # a source reads neighbours together
        rows = np.array(sorted(rows.tolist(), key=lambda row: str(paths[digests[row]][0])))
    for attempt in range(max(map(len, paths.values()))):
        wanted = [digests[row] for row in rows.tolist()]
        into = Destination(Path(output.name), offset, rows)
        for block in decode_files([paths[digest][attempt] for digest in wanted], spec, engine, wanted, into):
            block_rows = rows[block.positions]
            if not block.written:
                _write_rows(output, block, block_rows[block.ok], offset)
            reasons |= {digests[row]: reason for row, reason in zip(block_rows, block.reasons, strict=True) if reason}
            unsynced += int(block.ok.sum()) * spec.image_bytes
            if unsynced >= _SYNC_EVERY:
                getattr(os, "fdatasync", os.fsync)(output.fileno())  # macOS and Windows have no fdatasync
                unsynced = 0
            done += len(block.positions) if attempt == 0 else 0
            on_progress(done, len(digests))
        # If a file couldn't be read, another one with the same content perhaps can.
        again = [
            digest
            for digest in wanted
            if reasons.get(digest, "").startswith(TRANSIENT_REASONS) and len(paths[digest]) > attempt + 1
        ]
        if not again:
            break
        rows = np.searchsorted(digests, again)
        for digest in again:
            del reasons[digest]
    return reasons


def _write_rows(output: BinaryIO, block: DecodedBlock, rows: Int64[np.ndarray, " good"], offset: int) -> None:
    """Writes a block's images to their rows, adjacent rows with one call.

    Not through a memory map: on a full disk, a write raises, whereas touching a mapped page kills the process.
    """
    if not len(rows):
        return
    image_bytes = block.pixels[0].nbytes
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    for start, stop in zip(starts, [*starts[1:], len(rows)], strict=True):
        output.seek(offset + int(rows[start]) * image_bytes)
        output.write(np.ascontiguousarray(block.pixels[start:stop]).data)
    output.flush()


def _close_gaps(
    output: BinaryIO, digests: Sequence[str], reasons: Mapping[str, str], spec: DecodeSpec
) -> dict[str, int]:
    """Moves the last images into the empty rows and truncates the file; returns the row of each digest."""
    rows = {digest: row for row, digest in enumerate(digests) if digest not in reasons}
    if len(rows) == len(digests):
        return rows
    header = _header((len(rows), *spec.image_shape))
    image_bytes = spec.image_bytes
    gaps = (row for row, digest in enumerate(digests[: len(rows)]) if digest in reasons)
    for digest in [digest for digest, row in rows.items() if row >= len(rows)]:
        output.seek(len(header) + rows[digest] * image_bytes)
        image = output.read(image_bytes)
        rows[digest] = next(gaps)
        output.seek(len(header) + rows[digest] * image_bytes)
        output.write(image)
    output.seek(0)
    output.write(header)
    output.truncate(len(header) + len(rows) * image_bytes)
    return rows


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


def reserve(output: BinaryIO, size: int) -> None:
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
