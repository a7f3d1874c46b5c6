"""Decoding many files, on the cores of this machine or of a Ray cluster.

Reads files, decodes them with :func:`raylight.data.decode.image.decode_image`, and reports unusable ones. Both engines call
the same function on the same bytes, so their results are identical. Memory use is constant: only a few blocks exist at a
time. :mod:`raylight.data.cache` stores the pixels; Ray's workers write them to its file directly where they can reach it
(:mod:`raylight.data.decode.with_ray`).
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np

from raylight.data.decode.blocks import (
    THREADS,
    DecodedBlock,
    Destination,
    Engine,
    FileBlock,
    block_of,
    decode_rows,
    split_files,
)
from raylight.data.decode.spec import DecodeSpec
from raylight.data.decode.with_ray import with_ray
from raylight.machine import usable_cpus
from raylight.storage.remote import AnyPath

THREAD_BLOCK: Final = 4_000_000
"""Maximum decoded bytes per block of a thread; small, since passing blocks between threads costs little."""


def decode_files(
    paths: Sequence[AnyPath | str],
    spec: DecodeSpec,
    engine: Engine = THREADS,
    digests: Sequence[str] | None = None,
    into: Destination | None = None,
    in_order: bool = False,
) -> Iterator[DecodedBlock]:
    """Decodes files, each exactly once, in blocks of bounded size.

    A file that is missing, unreadable or not an image is reported with the reason, and decoding goes on. If a worker or node
    of a Ray cluster fails, others take over its files.

    Args:
        paths: the files, or their URIs; with a Ray cluster, as its nodes see them.
        spec: shape of each image.
        engine: what decodes; a Ray session is closed with the iterator.
        digests: expected SHA-256 of each file, in hexadecimal; a file with another one is reported as changed. ``None``
            accepts any content.
        into: where Ray's workers may write the images directly.
        in_order: keep the blocks of ``ray`` in order, too; a few may have to wait for an earlier one.

    Returns:
        Blocks that together contain each file once; in order with ``threads`` or ``in_order``.

    Raises:
        RaylightError: Ray can't start, its cluster isn't suitable, or decoding in it failed.
    """
    if engine.name == "ray":
        return with_ray(paths, digests, spec, engine, into, in_order)
    return _with_threads(paths, digests, spec, engine.workers or usable_cpus())


def _with_threads(
    paths: Sequence[AnyPath | str], digests: Sequence[str] | None, spec: DecodeSpec, workers: int
) -> Iterator[DecodedBlock]:
    """Decodes in a thread pool, at most two blocks per thread ahead of the consumer."""
    blocks = split_files(paths, digests, spec, workers, THREAD_BLOCK)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[tuple[FileBlock, Future[tuple[np.ndarray, list[str | None]]]]] = deque()
    try:
        while True:
            for block in itertools.islice(blocks, 2 * workers - len(pending)):
                pending.append((block, pool.submit(decode_rows, block.paths, block.digests, spec)))
            if not pending:
                return
            block, result = pending.popleft()
            yield block_of(block.positions, *result.result())
    finally:
        pool.shutdown(cancel_futures=True)
