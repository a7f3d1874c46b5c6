"""Decoding on the cores of a Ray cluster, with Ray Data.

Workers that can reach the destination file write images to it directly: the object store would copy the pixels twice more.
"""

import contextlib
import logging
import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from jaxtyping import Shaped, UInt8

from raylight.data.decode.blocks import (
    DecodedBlock,
    Destination,
    Engine,
    block_length,
    block_of,
    decode_rows,
    read_checked,
)
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError, RaylightError, first_line
from raylight.machine import keep_freed_memory, usable_cpus
from raylight.runs.preflight import check_nodes_see, largest_block
from raylight.runs.ray_session import ray_session
from raylight.storage.remote import AnyPath

RAY_BLOCK: Final = 32_000_000
"""Maximum decoded bytes per block in Ray's object store."""

RAY_TASK: Final = 100_000_000
"""Maximum decoded bytes per Ray task; large, since starting a task takes some tens of milliseconds."""

MIN_TASKS_PER_WORKER: Final = 2
"""As long as there are enough files. Two even out what workers differ in; more cost more than they even out."""

_log = logging.getLogger(__name__)


def with_ray(
    paths: Sequence[AnyPath | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    engine: Engine,
    into: Destination | None,
    in_order: bool,
) -> Iterator[DecodedBlock]:
    """Decodes files with Ray Data.

    Args:
        paths: the files, or their URIs, as the cluster's nodes see them.
        digests: expected SHA-256 of each file; ``None`` accepts any content.
        spec: shape of each image.
        engine: has the session, which is closed with the iterator, and the number of tasks at a time.
        into: where workers may write the images directly.
        in_order: keep the blocks in order.

    Yields:
        Blocks that together contain each file once.

    Raises:
        RaylightError: Ray can't start, its cluster isn't suitable, or decoding in it failed.
    """
    if not paths:
        return
    positions = np.arange(len(paths))
    files = pa.table(
        {
            "position": positions,
            "row": into.rows if into is not None else positions,
            "path": pa.array([str(path) for path in paths], pa.string()),
            "digest": pa.array(digests if digests is not None else [""] * len(paths), pa.string()),
        }
    )
    work = RayWork(_decode_batch, str(paths[0]), spec, into, in_order)
    with contextlib.closing(through_ray(files, work, engine)) as batches:
        for batch in batches:
            reasons = [reason or None for reason in batch["reason"].tolist()]
            if "pixels" in batch:
                yield block_of(batch["position"], batch["pixels"], reasons)
            else:
                ok = np.array([reason is None for reason in reasons])
                nothing = np.empty((0, *spec.image_shape), np.uint8)
                yield DecodedBlock(batch["position"], nothing, ok, tuple(reasons), True)


@dataclass(frozen=True)
class RayWork:
    """What Ray's workers do with the files.

    Attributes:
        function: called in the workers with a batch, ``spec``, ``block`` (maximum bytes of a batch it returns) and ``into``;
            yields batches with the ``position`` of each file.
        first: path of one of the files, which every node must see.
        spec: shape of each image.
        into: where workers may write the images directly.
        in_order: keep the batches in order.
    """

    function: Callable[..., Iterator[dict[str, np.ndarray]]]
    first: str
    spec: DecodeSpec
    into: Destination | None = None
    in_order: bool = False


def through_ray(files: pa.Table, work: RayWork, engine: Engine) -> Generator[dict[str, np.ndarray]]:
    """Passes files through Ray Data, several blocks per task; Ray's backpressure bounds the use of the object store.

    Args:
        files: a row per file, with its ``position``, from 0, and whatever the function takes.
        work: what is done with them.
        engine: has the session, which is closed with the iterator, and the number of tasks at a time.

    Yields:
        Batches that together contain each file once.

    Raises:
        RaylightError: Ray can't start, its cluster isn't suitable, or the work failed.
    """
    workers, into, begin = engine.workers, work.into, time.perf_counter()
    with ray_session(engine.ray, workers, close_in_background=True) as begun:
        import ray

        session: Any = ray
        cpus = workers or int(session.cluster_resources()["CPU"])
        # Workers import what they need while this process imports Ray Data; nothing waits for them.
        warm_ups = [session.remote(_warm_up).remote(work.function) for _ in range(min(cpus, usable_cpus()))]
        block = largest_block(work.spec.image_bytes, RAY_BLOCK)
        check_nodes_see(work.first)
        length = block_length(len(files), work.spec, cpus * MIN_TASKS_PER_WORKER, RAY_TASK)
        output = into and Output(str(into.file), into.offset, _node())
        with _data_context(block, work.in_order):
            done = session.data.from_arrow(
                [files.slice(start, length) for start in range(0, len(files), length)]
            ).map_batches(
                work.function,
                fn_kwargs={"spec": work.spec, "block": block, "into": output},
                batch_size=None,
                batch_format="numpy",
                concurrency=workers,
            )
            try:
                for batch in _without_duplicates(done.iter_batches(batch_size=None, batch_format="numpy"), len(files)):
                    if begun:
                        seconds = time.perf_counter() - begin
                        _log.info("Ray Data: first images after %.1f s (decode=threads has no such start)", seconds)
                        begun = False
                    yield batch
            except ray.exceptions.RayError as error:
                cause = first_line(error)
                raise RaylightError(f"Decoding with Ray failed: {cause} (decode=threads works without Ray)") from error
            finally:
                del warm_ups, done  # before the session ends, with which Ray's references do


def _without_duplicates(batches: Iterator[dict[str, np.ndarray]], count: int) -> Iterator[dict[str, np.ndarray]]:
    """Drops duplicate rows from retried Ray tasks; raises an error if files are missing at the end."""
    missing = np.ones(count, bool)
    for batch in batches:
        new = missing[batch["position"]]
        missing[batch["position"]] = False
        if new.any():
            yield batch if new.all() else {name: values[new] for name, values in batch.items()}
    if missing.any():
        raise RaylightError(
            f"Ray returned only {count - missing.sum():,} of {count:,} files, without an error; see the logs of its workers"
        )


@dataclass(frozen=True)
class Output:
    """A destination as it is passed to workers."""

    name: str
    offset: int
    node: str
    """Ray's ID of the node whose process will read the file."""

    @contextlib.contextmanager
    def opened(self) -> Iterator[Callable[[int, UInt8[np.ndarray, "height width 3"]], None] | None]:
        """Opens the file for writing; what was written is on disk at the end if this isn't the node that reads it.

        Yields:
            A function that writes an image to a row; ``None`` if this machine can't reach the file, or can't write at an offset
            (Windows).
        """
        descriptor = self.descriptor()
        if descriptor is None:
            yield None
            return
        try:
            yield lambda row, pixels: _write_at(descriptor, pixels, self.offset + row * pixels.nbytes)
            if _node() != self.node:
                os.fsync(descriptor)  # before success is reported, since this node may fail right afterwards
        finally:
            os.close(descriptor)

    def descriptor(self) -> int | None:
        """Opens the file for writing; ``None`` if this machine can't."""
        if not hasattr(os, "pwrite"):
            return None
        try:
            return os.open(self.name, os.O_WRONLY)
        except OSError:
            return None


def _write_at(descriptor: int, pixels: UInt8[np.ndarray, "height width 3"], place: int) -> None:
    os.pwrite(descriptor, np.ascontiguousarray(pixels).data, place)


def _node() -> str:
    """Ray's ID of this node."""
    import ray

    session: Any = ray
    return str(session.get_runtime_context().get_node_id())


def _warm_up(function: Callable[..., Any]) -> None:
    """Imports what a function needs, since it comes with the task; runs in Ray's workers."""
    import ray.data  # noqa: F401
    import simplejpeg  # noqa: F401


def _decode_batch(
    batch: dict[str, np.ndarray], spec: DecodeSpec, block: int, into: Output | None
) -> Iterator[dict[str, np.ndarray]]:
    """Decodes the files of one task; runs in Ray's workers."""
    with into.opened() if into is not None else contextlib.nullcontext() as write:
        if write is not None:
            written = {"position": batch["position"], "reason": _decode_into(write, batch, spec)}
    if write is not None:
        yield written
        return
    for part in parts_of(batch, spec, block):
        pixels, reasons = decode_rows(part["path"].tolist(), part["digest"].tolist(), spec)
        yield {"position": part["position"], "pixels": pixels, "reason": _as_text(reasons)}


def parts_of(batch: dict[str, np.ndarray], spec: DecodeSpec, block: int) -> Iterator[dict[str, np.ndarray]]:
    """Splits the files of a task.

    Args:
        batch: the files.
        spec: shape of each image.
        block: maximum decoded bytes per part; at least one image is in it.

    Yields:
        The parts, in order.
    """
    length = max(block // spec.image_bytes, 1)
    for start in range(0, len(batch["position"]), length):
        yield {name: values[start : start + length] for name, values in batch.items()}


def _decode_into(
    write: Callable[[int, UInt8[np.ndarray, "height width 3"]], None], batch: dict[str, np.ndarray], spec: DecodeSpec
) -> Shaped[np.ndarray, " file"]:
    """Writes images to their rows, one by one: a single image stays in the processor's cache."""
    keep_freed_memory()
    pixels = np.empty(spec.image_shape, np.uint8)
    reasons: list[str | None] = []
    for row, path, digest in zip(batch["row"].tolist(), batch["path"], batch["digest"], strict=True):
        try:
            decode_image(read_checked(path, digest), spec, pixels)
            write(row, pixels)
            reasons.append(None)
        except BadImageError as error:
            reasons.append(str(error))
    return _as_text(reasons)


def _as_text(reasons: Sequence[str | None]) -> Shaped[np.ndarray, " file"]:
    return np.array([reason or "" for reason in reasons], object)


@contextlib.contextmanager
def _data_context(block: int, in_order: bool) -> Iterator[None]:
    """Keeps Ray Data from printing over the progress bar, and sets its block size; restores the settings at the end."""
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
