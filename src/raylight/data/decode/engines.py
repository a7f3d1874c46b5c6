"""Decoding many files, on the cores of this machine or of a Ray cluster.

Covers reading, decoding with :func:`raylight.data.decode.image.decode_image`, and quarantining unusable files.
Both engines call the same function on the same bytes, so their results are identical. Memory use is constant: only
a few blocks exist at a time. Storing pixels is up to :mod:`raylight.data.cache`, but where Ray's workers can reach its
file they write to it directly: the object store would copy the pixels twice more.
"""

import contextlib
import hashlib
import io
import itertools
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from jaxtyping import Bool, Int64, Shaped, UInt8

from raylight.config.schema import DecodeConfig, RayConfig
from raylight.config.uris import is_uri
from raylight.data.decode.image import DecodeSpec, decode_image
from raylight.errors import BadImageError, RaylightError, first_line
from raylight.runs.machine import keep_freed_memory, usable_cpus
from raylight.runs.preflight import check_nodes_see, largest_block
from raylight.runs.ray_session import ray_session
from raylight.storage.remote import AnyPath, to_path

THREAD_BLOCK: Final = 4_000_000
"""Maximum decoded bytes per block of a thread; small, since passing blocks between threads costs little."""

RAY_BLOCK: Final = 32_000_000
"""Maximum decoded bytes per block in Ray's object store."""

RAY_TASK: Final = 100_000_000
"""Maximum decoded bytes per Ray task; large, since starting a task takes some tens of milliseconds."""

TRANSIENT_REASONS: Final = ("can't be read", "changed since it was indexed")
"""How the reasons of transient errors begin, which say nothing about a file's content."""

MIN_BLOCKS_PER_WORKER: Final = 4
"""Where there are enough files; so that all workers finish at about the same time."""


@dataclass(frozen=True)
class DecodedBlock:
    """The result of decoding some of the files.

    Attributes:
        positions: positions of these files in ``paths``.
        pixels: the images that are ``ok``, in the order of ``positions``.
        ok: whether each file is a usable image.
        reasons: why a file isn't usable, else ``None``.
        written: whether a worker has written the images to their destination; ``pixels`` is empty then.
    """

    positions: Int64[np.ndarray, " file"]
    pixels: UInt8[np.ndarray, "good height width 3"]
    ok: Bool[np.ndarray, " file"]
    reasons: tuple[str | None, ...]
    written: bool = False


@dataclass(frozen=True)
class Destination:
    """A file of images for workers that can reach it to write to.

    Attributes:
        file: its name must be unique over all machines, since workers recognise it by its name.
        offset: of the first row, in bytes.
        rows: row of each file's image.
    """

    file: Path
    offset: int
    rows: Int64[np.ndarray, " file"]


def decode_files(
    paths: Sequence[AnyPath | str],
    spec: DecodeSpec,
    decode: DecodeConfig,
    ray: RayConfig,
    on_progress: Callable[[int], None],
    digests: Sequence[str] | None = None,
    into: Destination | None = None,
    in_order: bool = False,
) -> Iterator[DecodedBlock]:
    """Decodes files, each exactly once, in blocks of bounded size.

    A file that is missing, unreadable or not an image is reported with the reason, and decoding goes on. Blocks come in
    order with ``engine=threads``, in any order with ``engine=ray`` unless ``in_order``. If a worker or node of a Ray cluster
    fails, others take over its files.

    Args:
        paths: the files, or their URIs; with a Ray cluster, as its nodes see them.
        spec: shape of each image.
        decode: engine and number of workers.
        ray: Ray session to start or join for ``engine=ray``; closed with the iterator.
        on_progress: called with the number of files of each finished block.
        digests: expected SHA-256 of each file, in hexadecimal; a file with another one is reported as changed. ``None``
            accepts any content.
        into: where Ray's workers may write the images directly.
        in_order: keep Ray's blocks in order, too; at most a few of them are held back.

    Yields:
        Blocks that together contain each file once.

    Raises:
        RaylightError: Ray can't start, its cluster isn't suitable, or decoding in it failed.
    """
    if decode.engine == "threads":
        blocks = _with_threads(paths, digests, spec, decode.workers or usable_cpus())
    elif decode.engine == "ray":
        blocks = _with_ray(paths, digests, spec, decode.workers, ray, into, in_order)
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
    """``""`` accepts any content."""


def _split(
    paths: Sequence[AnyPath | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    workers: int,
    most_bytes: int,
) -> Iterator[_Files]:
    """Splits the files into blocks that fit into memory and keep all workers busy."""
    fitting = most_bytes // (spec.size * spec.size * 3)
    length = max(min(fitting, len(paths) // (workers * MIN_BLOCKS_PER_WORKER)), 1)
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
    """Reads and decodes files one after the other; an unusable file gives zeros and a reason."""
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
        if is_uri(path):
            data = to_path(path).read_bytes()
        else:
            with io.FileIO(path) as file:
                data = file.readall()
    except OSError as error:
        raise BadImageError(f"{TRANSIENT_REASONS[0]}: {error.strerror or error}") from error
    if digest and hashlib.sha256(data).hexdigest() != digest:
        raise BadImageError(TRANSIENT_REASONS[1])
    return data


def _with_threads(
    paths: Sequence[AnyPath | str], digests: Sequence[str] | None, spec: DecodeSpec, workers: int
) -> Iterator[DecodedBlock]:
    """Decodes in a thread pool, at most two blocks per thread ahead of the consumer."""
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
    paths: Sequence[AnyPath | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    workers: int | None,
    config: RayConfig,
    into: Destination | None,
    in_order: bool,
) -> Iterator[DecodedBlock]:
    """Decodes with Ray Data, several blocks per task; Ray's backpressure bounds the use of the object store."""
    if not paths:
        return
    with ray_session(config, workers, ends_later=True):
        import pyarrow as pa
        import ray

        session: Any = ray
        cpus = workers or int(session.cluster_resources()["CPU"])
        # Workers import what they need while this process imports Ray Data; nothing waits for them.
        warming = [session.remote(_warm_up).remote() for _ in range(min(cpus, usable_cpus()))]
        block = largest_block(spec.size * spec.size * 3, RAY_BLOCK)
        check_nodes_see(str(paths[0]))
        tables = [
            pa.table(
                {
                    "position": files.positions,
                    "row": into.rows[files.positions] if into is not None else files.positions,
                    "path": pa.array(files.paths, pa.string()),
                    "digest": pa.array(files.digests, pa.string()),
                }
            )
            for files in _split(paths, digests, spec, cpus, RAY_TASK)
        ]
        open_file = into and _OpenFile(str(into.file), into.offset, session.get_runtime_context().get_node_id())
        with _data_context(block, in_order):
            decoded = session.data.from_arrow(tables).map_batches(
                _decode_batch,
                fn_kwargs={"spec": spec, "block": block, "into": open_file},
                batch_size=None,
                batch_format="numpy",
                concurrency=workers,
            )
            try:
                yield from _without_duplicates(
                    decoded.iter_batches(batch_size=None, batch_format="numpy"), len(paths), spec
                )
                del warming
            except ray.exceptions.RayError as error:
                first = first_line(error)
                raise RaylightError(f"Decoding with Ray failed: {first} (decode=threads works without Ray)") from error


def _without_duplicates(
    batches: Iterator[dict[str, np.ndarray]], count: int, spec: DecodeSpec
) -> Iterator[DecodedBlock]:
    """Turns Ray's batches into blocks; drops duplicate rows from retried Ray tasks."""
    missing = np.ones(count, bool)
    for batch in batches:
        new = missing[batch["position"]]
        if not new.any():
            continue
        missing[batch["position"]] = False
        positions, reasons = batch["position"][new], [reason or None for reason in batch["reason"][new].tolist()]
        if "pixels" in batch:
            yield _block(positions, batch["pixels"] if new.all() else batch["pixels"][new], reasons)
        else:
            nothing = np.empty((0, spec.size, spec.size, 3), np.uint8)
            yield DecodedBlock(positions, nothing, np.array([why is None for why in reasons]), tuple(reasons), True)
    if missing.any():
        raise RaylightError(
            f"Ray returned only {count - missing.sum():,} of {count:,} files, without an error; see the logs of its workers"
        )


@dataclass(frozen=True)
class _OpenFile:
    """A destination, as passed to workers."""

    name: str
    offset: int
    node: str
    """Ray's ID of the node whose process will read the file."""

    def descriptor(self) -> int | None:
        """Opens the file for writing; ``None`` if this machine can't reach it."""
        try:
            return os.open(self.name, os.O_WRONLY)
        except OSError:
            return None


def _warm_up() -> None:
    """Imports what decoding needs; runs in Ray's workers."""
    import ray.data  # noqa: F401
    import simplejpeg  # noqa: F401


def _decode_batch(
    batch: dict[str, np.ndarray], spec: DecodeSpec, block: int, into: _OpenFile | None
) -> Iterator[dict[str, np.ndarray]]:
    """Decodes the files of one task; runs in Ray's workers."""
    descriptor = into.descriptor() if into is not None else None
    if into is not None and descriptor is not None:
        yield {"position": batch["position"], "reason": _decode_into(descriptor, into, batch, spec)}
        return
    length = max(block // (spec.size * spec.size * 3), 1)
    for start in range(0, len(batch["position"]), length):
        part = {name: values[start : start + length] for name, values in batch.items()}
        pixels, reasons = _decode_rows(part["path"].tolist(), part["digest"].tolist(), spec)
        yield {"position": part["position"], "pixels": pixels, "reason": _as_text(reasons)}


def _decode_into(
    descriptor: int, into: _OpenFile, batch: dict[str, np.ndarray], spec: DecodeSpec
) -> Shaped[np.ndarray, " file"]:
    """Writes images to their rows one by one: a single image stays in the processor's cache."""
    import ray

    keep_freed_memory()
    pixels = np.empty((spec.size, spec.size, 3), np.uint8)
    reasons: list[str | None] = []
    try:
        for row, path, digest in zip(batch["row"].tolist(), batch["path"], batch["digest"], strict=True):
            try:
                decode_image(_read(path, digest), spec, pixels)
                os.pwrite(descriptor, pixels.data, into.offset + row * pixels.nbytes)
                reasons.append(None)
            except BadImageError as error:
                reasons.append(str(error))
        if ray.get_runtime_context().get_node_id() != into.node:
            os.fsync(descriptor)  # before reporting success, since this node may fail right after
    finally:
        os.close(descriptor)
    return _as_text(reasons)


def _as_text(reasons: Sequence[str | None]) -> Shaped[np.ndarray, " file"]:
    return np.array([reason or "" for reason in reasons], object)


@contextlib.contextmanager
def _data_context(block: int, in_order: bool) -> Iterator[None]:
    """Keeps Ray Data from printing over our own progress bar, and sets its block size; restores the settings at the end."""
    from ray.data import DataContext

    context, logger = DataContext.get_current(), logging.getLogger("ray.data")
    settings = {
        "enable_progress_bars": False,
        "print_on_execution_start": False,
        "target_max_block_size": block,
    }
    before, level = {name: getattr(context, name) for name in settings}, logger.level
    order = context.execution_options.preserve_order
    context.execution_options.preserve_order = in_order
    for name, value in settings.items():
        setattr(context, name, value)
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(context, name, value)
        context.execution_options.preserve_order = order
        logger.setLevel(level)
