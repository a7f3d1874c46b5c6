"""Many files to pixels, on the cores of this machine or of a Ray cluster.

Covers reading, decoding with :func:`raylight.data.decode.image.decode_image`, and quarantining what can't be used.
Both engines call the same function on the same bytes, so their results are identical. Memory stays flat: only
a few blocks exist at a time. Leaves keeping the pixels to :mod:`raylight.data.cache`, but Ray's workers write them to
where they are kept themselves if they can: passing through the object store they would be copied twice more.
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
from raylight.storage.remote import Place, place

THREAD_BLOCK: Final = 4_000_000
"""Most decoded bytes in one block of a thread: handing it over costs little, so it may be small."""

RAY_BLOCK: Final = 32_000_000
"""Most decoded bytes in one block that passes through Ray's object store."""

RAY_TASK: Final = 100_000_000
"""Most decoded bytes of one Ray task, which costs some tens of milliseconds and must be worth them."""

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
        written: whether the images already are where they are kept; ``pixels`` is empty then.
    """

    positions: Int64[np.ndarray, " file"]
    pixels: UInt8[np.ndarray, "good height width 3"]
    ok: Bool[np.ndarray, " file"]
    reasons: tuple[str | None, ...]
    written: bool = False


@dataclass(frozen=True)
class Destination:
    """A file of images one after the other, for workers that can reach it to write into.

    Attributes:
        file: its name must be one that no other file has on any machine, since a worker that finds it takes it for this.
        offset: where the first row begins, in bytes.
        rows: where each file's image belongs.
    """

    file: Path
    offset: int
    rows: Int64[np.ndarray, " file"]


def decode_files(
    paths: Sequence[Place | str],
    spec: DecodeSpec,
    decode: DecodeConfig,
    ray: RayConfig,
    on_progress: Callable[[int], None],
    digests: Sequence[str] | None = None,
    into: Destination | None = None,
    in_order: bool = False,
) -> Iterator[DecodedBlock]:
    """Decodes files, each exactly once, in blocks of bounded size.

    A file that is missing, unreadable or not an image is reported with its reason; it stops nothing. Blocks
    come in order with ``engine=threads``, in any order with ``engine=ray`` unless told otherwise. A worker or node of a
    Ray cluster that ends early is replaced by others, which decode what it hadn't handed over.

    Args:
        paths: the files, or their URIs; with a Ray cluster, as its nodes see them.
        spec: shape of each image.
        decode: engine and number of workers.
        ray: session to start or join for ``engine=ray``; closed when the iterator is exhausted or closed.
        on_progress: called with the number of files that each block finished.
        digests: SHA-256 that each file's content should have, in hexadecimal; a file that has another one is
            reported as changed. ``None`` takes whatever is there.
        into: where Ray's workers may write the images themselves.
        in_order: keep Ray's blocks in order, too; at most a few of them wait for their turn.

    Raises:
        RaylightError: Ray can't start, its cluster can't do it, or it gave up.
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
    """``""`` where any content will do."""


def _split(
    paths: Sequence[Place | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    workers: int,
    most_bytes: int,
) -> Iterator[_Files]:
    """Cuts the files into blocks that fit into memory and keep all workers busy."""
    fitting = most_bytes // (spec.size * spec.size * 3)
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
        if is_uri(path):
            data = place(path).read_bytes()
        else:
            with io.FileIO(path) as file:
                data = file.readall()
    except OSError as error:
        raise BadImageError(f"{PASSING_REASONS[0]}: {error.strerror or error}") from error
    if digest and hashlib.sha256(data).hexdigest() != digest:
        raise BadImageError(PASSING_REASONS[1])
    return data


def _with_threads(
    paths: Sequence[Place | str], digests: Sequence[str] | None, spec: DecodeSpec, workers: int
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
    paths: Sequence[Place | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    workers: int | None,
    config: RayConfig,
    into: Destination | None,
    in_order: bool,
) -> Iterator[DecodedBlock]:
    """Runs Ray Data: a task for some blocks; Ray's own back-pressure bounds what waits in the object store."""
    if not paths:
        return
    with ray_session(config, workers, ends_later=True):
        import pyarrow as pa
        import ray

        session: Any = ray
        cpus = workers or int(session.cluster_resources()["CPU"])
        # Workers import what they need while this process imports Ray Data; nobody waits for them.
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
                yield from _each_once(decoded.iter_batches(batch_size=None, batch_format="numpy"), len(paths), spec)
                del warming
            except ray.exceptions.RayError as error:
                first = first_line(error)
                raise RaylightError(f"Ray gave up decoding: {first} (decode=threads works without Ray)") from error


def _each_once(batches: Iterator[dict[str, np.ndarray]], count: int, spec: DecodeSpec) -> Iterator[DecodedBlock]:
    """Turns Ray's batches into blocks; what a repeated task hands over a second time is passed over."""
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
            f"Ray handed over only {count - missing.sum():,} of {count:,} files and said no more; see the logs of its workers"
        )


@dataclass(frozen=True)
class _OpenFile:
    """A destination as a worker gets it."""

    name: str
    offset: int
    node: str
    """Where the process is that will read the file."""

    def descriptor(self) -> int | None:
        """The file opened for writing; ``None`` where this machine doesn't have it."""
        try:
            return os.open(self.name, os.O_WRONLY)
        except OSError:
            return None


def _warm_up() -> None:
    """Import what decoding needs; runs in Ray's workers."""
    import ray.data  # noqa: F401
    import simplejpeg  # noqa: F401


def _decode_batch(
    batch: dict[str, np.ndarray], spec: DecodeSpec, block: int, into: _OpenFile | None
) -> Iterator[dict[str, np.ndarray]]:
    """One task, in the shape in which Ray Data passes it; runs in Ray's workers."""
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
    """Writes images to their rows, one by one: a single picture's memory stays in the processor's cache."""
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
            os.fsync(descriptor)  # before saying so, since this machine may be gone a moment later
    finally:
        os.close(descriptor)
    return _as_text(reasons)


def _as_text(reasons: Sequence[str | None]) -> Shaped[np.ndarray, " file"]:
    return np.array([reason or "" for reason in reasons], object)


@contextlib.contextmanager
def _data_context(block: int, in_order: bool) -> Iterator[None]:
    """Keeps Ray Data from printing over our own progress and blocks to their size; gives the process its settings back."""
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
