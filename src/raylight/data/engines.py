"""Many files to pixels, on the cores of this machine or of a Ray cluster.

Covers reading, decoding with :func:`raylight.data.decode.decode_image`, and quarantining what can't be used.
Both engines call the same function on the same bytes, so their results are identical. Memory stays flat: only
a few blocks exist at a time. Leaves keeping the pixels to :mod:`raylight.data.cache`.
"""

import contextlib
import hashlib
import io
import itertools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from raylight.config.schema import DecodeConfig, RayConfig
from raylight.data.decode import DecodeSpec, decode_image
from raylight.errors import BadImageError, RaylightError
from raylight.runs.machine import keep_freed_memory, usable_cpus
from raylight.runs.ray_session import ray_session

THREAD_BLOCK: Final = 4_000_000
"""Most decoded bytes in one block of a thread: handing it over costs little, so it may be small."""

RAY_BLOCK: Final = 32_000_000
"""Most decoded bytes in one block of a Ray task, which costs some ten milliseconds and must be worth them."""

PASSING_REASONS: Final = ("can't be read", "changed since it was indexed")
"""How reasons begin that speak of the moment and not of a file's content."""

BLOCKS_A_WORKER: Final = 4
"""Least blocks for each worker, where there are files enough, so that all finish at about the same time."""


@dataclass(frozen=True)
class DecodedBlock:
    """What became of some of the files.

    Attributes:
        positions: places of these files among all that were asked for, counted from 0.
        pixels: the images of those that are ``ok``, in the order of ``positions``.
        ok: whether the file is a usable image.
        reasons: why not, else ``None``.
    """

    positions: Int64[np.ndarray, " file"]
    pixels: UInt8[np.ndarray, "good height width 3"]
    ok: Bool[np.ndarray, " file"]
    reasons: tuple[str | None, ...]


def decode_files(
    paths: Sequence[Path | str],
    spec: DecodeSpec,
    decode: DecodeConfig,
    ray: RayConfig,
    on_progress: Callable[[int], None],
    digests: Sequence[str] | None = None,
) -> Iterator[DecodedBlock]:
    """Decodes files, each exactly once, in blocks of bounded size.

    A file that is missing, unreadable or not an image is reported with its reason; it stops nothing. Blocks
    come in order with ``engine=threads``, in any order with ``engine=ray``.

    Args:
        paths: the files; with a Ray cluster, as its nodes see them.
        spec: shape of each image.
        decode: engine and number of workers.
        ray: session to start or join for ``engine=ray``; closed when the iterator is exhausted or closed.
        on_progress: called with the number of files that each block finished.
        digests: SHA-256 that each file's content should have, in hexadecimal; a file that has another one is
            reported as changed. ``None`` takes whatever is there.

    Raises:
        RaylightError: Ray can't start, or gave up.
    """
    if decode.engine == "threads":
        blocks = _with_threads(paths, digests, spec, decode.workers or usable_cpus())
    elif decode.engine == "ray":
        blocks = _with_ray(paths, digests, spec, decode.workers, ray)
    else:
        raise ValueError(f"decode.engine={decode.engine!r}: expected 'ray' or 'threads'")
    for block in blocks:
        on_progress(len(block.positions))
        yield block


@dataclass(frozen=True)
class _Files:
    """The files of one block, not yet decoded."""

    positions: Int64[np.ndarray, " file"]
    paths: tuple[str, ...]
    digests: tuple[str, ...]
    """``""`` where any content will do."""


def _split(
    paths: Sequence[Path | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    workers: int,
    largest_block: int,
) -> Iterator[_Files]:
    """Cuts the files into blocks that fit into memory and keep all workers busy."""
    fitting = largest_block // (spec.size * spec.size * 3)
    length = max(min(fitting, len(paths) // (workers * BLOCKS_A_WORKER)), 1)
    for start in range(0, len(paths), length):
        stop = min(start + length, len(paths))
        yield _Files(
            np.arange(start, stop),
            tuple(str(path) for path in paths[start:stop]),
            tuple(digests[start:stop]) if digests is not None else ("",) * (stop - start),
        )


def _decode_rows(
    paths: Sequence[str], digests: Sequence[str], spec: DecodeSpec
) -> tuple[UInt8[np.ndarray, "file height width 3"], list[str | None]]:
    """Reads and decodes files one after the other; a file that can't be used leaves zeros and a reason."""
    keep_freed_memory()
    pixels = np.zeros((len(paths), spec.size, spec.size, 3), np.uint8)
    reasons: list[str | None] = [None] * len(paths)
    for row, (path, digest) in enumerate(zip(paths, digests, strict=True)):
        try:
            decode_image(_read(path, digest), spec, pixels[row])
        except BadImageError as error:
            reasons[row] = str(error)
    return pixels, reasons


def _block(
    positions: Int64[np.ndarray, " file"],
    pixels: UInt8[np.ndarray, "file height width 3"],
    reasons: Sequence[str | None],
) -> DecodedBlock:
    ok = np.array([reason is None for reason in reasons])
    return DecodedBlock(positions, pixels if ok.all() else pixels[ok], ok, tuple(reasons))


def _read(path: str, digest: str) -> bytes:
    try:
        with io.FileIO(path) as file:
            data = file.readall()
    except OSError as error:
        raise BadImageError(f"{PASSING_REASONS[0]}: {error.strerror or error}") from error
    if digest and hashlib.sha256(data).hexdigest() != digest:
        raise BadImageError(PASSING_REASONS[1])
    return data


def _with_threads(
    paths: Sequence[Path | str], digests: Sequence[str] | None, spec: DecodeSpec, workers: int
) -> Iterator[DecodedBlock]:
    """Runs a pool of threads, at most two blocks a thread ahead of whoever takes the results."""
    work = _split(paths, digests, spec, workers, THREAD_BLOCK)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[tuple[_Files, Future[tuple[np.ndarray, list[str | None]]]]] = deque()
    try:
        while True:
            for files in itertools.islice(work, 2 * workers - len(pending)):
                pending.append((files, pool.submit(_decode_rows, files.paths, files.digests, spec)))
            if not pending:
                return
            files, result = pending.popleft()
            yield _block(files.positions, *result.result())
    finally:
        pool.shutdown(cancel_futures=True)


def _with_ray(
    paths: Sequence[Path | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    workers: int | None,
    config: RayConfig,
) -> Iterator[DecodedBlock]:
    """Runs Ray Data: a task a block; Ray's own back-pressure bounds what waits in the object store."""
    with ray_session(config, workers), _quiet_ray_data():
        import pyarrow as pa
        import ray
        import ray.data

        session: Any = ray
        cluster = session.cluster_resources()
        cpus, store = int(cluster.get("CPU", 0)), cluster.get("object_store_memory", 0)
        if cpus < 1:
            raise RaylightError("no node of the Ray cluster offers a CPU, so nothing would ever be decoded")
        # A worker has a block in the making and one waiting; Ray Data keeps as much again in reserve.
        largest = min(RAY_BLOCK, int(store / (4 * cpus)))
        tables = [
            pa.table(
                {
                    "position": files.positions,
                    "path": pa.array(files.paths, pa.string()),
                    "digest": pa.array(files.digests, pa.string()),
                }
            )
            for files in _split(paths, digests, spec, workers or cpus, largest)
        ]
        if not tables:
            return
        decoded = session.data.from_arrow(tables).map_batches(
            _decode_batch,
            fn_kwargs={"spec": spec},
            batch_size=None,
            batch_format="numpy",
            concurrency=workers,
        )
        try:
            for batch in decoded.iter_batches(batch_size=None, batch_format="numpy"):
                yield _block(
                    batch["position"],
                    batch["pixels"],
                    [reason or None for reason in batch["reason"].tolist()],
                )
        except ray.exceptions.RayError as error:
            first = str(error).strip().splitlines()[0]
            raise RaylightError(f"Ray gave up decoding: {first} (decode=threads works without Ray)") from error


def _decode_batch(batch: dict[str, np.ndarray], spec: DecodeSpec) -> dict[str, np.ndarray]:
    """One block in the shape in which Ray Data passes it; runs in Ray's workers."""
    pixels, reasons = _decode_rows(batch["path"].tolist(), batch["digest"].tolist(), spec)
    return {
        "position": batch["position"],
        "pixels": pixels,
        "reason": np.array([reason or "" for reason in reasons], object),
    }


@contextlib.contextmanager
def _quiet_ray_data() -> Iterator[None]:
    """Keeps Ray Data from printing over our own progress, and gives the process its settings back."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    before = context.enable_progress_bars, context.print_on_execution_start, logger.level
    context.enable_progress_bars = context.print_on_execution_start = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars, context.print_on_execution_start = before[:2]
        logger.setLevel(before[2])
