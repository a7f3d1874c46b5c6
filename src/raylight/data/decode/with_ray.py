"""Decoding on the cores of a Ray cluster, with Ray Data.

Workers that can reach the destination file write images to it directly: the object store would copy the pixels twice more.
"""

import contextlib
import gc
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from jaxtyping import Shaped

from raylight.data.decode.blocks import (
    DecodedBlock,
    Destination,
    Engine,
    block_of,
    decode_rows,
    read_checked,
    split_files,
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


def with_ray(
    paths: Sequence[AnyPath | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    engine: Engine,
    into: Destination | None,
    in_order: bool,
) -> Iterator[DecodedBlock]:
    """Decodes files with Ray Data, several blocks per task; Ray's backpressure bounds the use of the object store.

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
    workers = engine.workers
    with ray_session(engine.ray, workers, close_in_background=True):
        import pyarrow as pa
        import ray

        session: Any = ray
        cpus = workers or int(session.cluster_resources()["CPU"])
        # Workers import what they need while this process imports Ray Data; nothing waits for them.
        warm_ups = [session.remote(_warm_up).remote() for _ in range(min(cpus, usable_cpus()))]
        block = largest_block(spec.image_bytes, RAY_BLOCK)
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
            for files in split_files(paths, digests, spec, cpus, RAY_TASK)
        ]
        output = into and _Output(str(into.file), into.offset, session.get_runtime_context().get_node_id())
        with _data_context(block, in_order):
            decoded = session.data.from_arrow(tables).map_batches(
                _decode_batch,
                fn_kwargs={"spec": spec, "block": block, "into": output},
                batch_size=None,
                batch_format="numpy",
                concurrency=workers,
            )
            try:
                yield from _without_duplicates(
                    decoded.iter_batches(batch_size=None, batch_format="numpy"), len(paths), spec
                )
            except ray.exceptions.RayError as error:
                cause = first_line(error)
                raise RaylightError(f"Decoding with Ray failed: {cause} (decode=threads works without Ray)") from error
            finally:
                # The session is closed by another thread. Ray ends the process if one of its references is released after that,
                # as garbage collection would do at any time.
                del warm_ups, decoded
                gc.collect()


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
            yield block_of(positions, batch["pixels"] if new.all() else batch["pixels"][new], reasons)
        else:
            ok = np.array([reason is None for reason in reasons])
            yield DecodedBlock(positions, np.empty((0, *spec.image_shape), np.uint8), ok, tuple(reasons), True)
    if missing.any():
        raise RaylightError(
            f"Ray returned only {count - missing.sum():,} of {count:,} files, without an error; see the logs of its workers"
        )


@dataclass(frozen=True)
class _Output:
    """A destination as it is passed to workers."""

    name: str
    offset: int
    node: str
    """Ray's ID of the node whose process will read the file."""

    def descriptor(self) -> int | None:
        """Opens the file for writing; ``None`` if this machine can't reach it, or can't write at an offset (Windows)."""
        if not hasattr(os, "pwrite"):
            return None
        try:
            return os.open(self.name, os.O_WRONLY)
        except OSError:
            return None


def _warm_up() -> None:
    """Imports what decoding needs; runs in Ray's workers."""
    import ray.data  # noqa: F401
    import simplejpeg  # noqa: F401


def _decode_batch(
    batch: dict[str, np.ndarray], spec: DecodeSpec, block: int, into: _Output | None
) -> Iterator[dict[str, np.ndarray]]:
    """Decodes the files of one task; runs in Ray's workers."""
    descriptor = into.descriptor() if into is not None else None
    if into is not None and descriptor is not None:
        yield {"position": batch["position"], "reason": _decode_into(descriptor, into, batch, spec)}
        return
    length = max(block // spec.image_bytes, 1)
    for start in range(0, len(batch["position"]), length):
        part = {name: values[start : start + length] for name, values in batch.items()}
        pixels, reasons = decode_rows(part["path"].tolist(), part["digest"].tolist(), spec)
        yield {"position": part["position"], "pixels": pixels, "reason": _as_text(reasons)}


def _decode_into(
    descriptor: int, into: _Output, batch: dict[str, np.ndarray], spec: DecodeSpec
) -> Shaped[np.ndarray, " file"]:
    """Writes images to their rows, one by one: a single image stays in the processor's cache."""
    import ray

    keep_freed_memory()
    pixels = np.empty(spec.image_shape, np.uint8)
    reasons: list[str | None] = []
    try:
        for row, path, digest in zip(batch["row"].tolist(), batch["path"], batch["digest"], strict=True):
            try:
                decode_image(read_checked(path, digest), spec, pixels)
                os.pwrite(descriptor, pixels.data, into.offset + row * pixels.nbytes)
                reasons.append(None)
            except BadImageError as error:
                reasons.append(str(error))
        if ray.get_runtime_context().get_node_id() != into.node:
            os.fsync(descriptor)  # before reporting success, since this node may fail right afterwards
    finally:
        os.close(descriptor)
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
