"""Decoding many files, on the cores of this machine or of a Ray cluster.

Covers reading, decoding with :func:`raylight.data.decode.image.decode_image`, and quarantining unusable files.
Both engines call the same function on the same bytes, so their results are identical. Memory use is constant: only
a few blocks exist at a time. Storing pixels is up to :mod:`raylight.data.cache`, but where Ray's workers can reach its
file they write to it directly (:mod:`raylight.data.decode.with_ray`).
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final

import numpy as np

from raylight.data.decode.blocks import THREADS, DecodedBlock, Destination, Engine, Files, block_of, decode_rows, split
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

    A file that is missing, unreadable or not an image is reported with the reason, and decoding goes on. Blocks come in
    order with threads, in any order with Ray unless ``in_order``. If a worker or node of a Ray cluster
    fails, others take over its files.

    Args:
        paths: the files, or their URIs; with a Ray cluster, as its nodes see them.
        spec: shape of each image.
        engine: what decodes; a Ray session is closed with the iterator.
        digests: expected SHA-256 of each file, in hexadecimal; a file with another one is reported as changed. ``None``
            accepts any content.
        into: where Ray's workers may write the images directly.
        in_order: keep Ray's blocks in order, too; at most a few of them are held back.

    Returns:
        Blocks that together contain each file once.

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
    work = split(paths, digests, spec, workers, THREAD_BLOCK)
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    pending: deque[tuple[Files, Future[tuple[np.ndarray, list[str | None]]]]] = deque()
    try:
        while True:
            for files in itertools.islice(work, 2 * workers - len(pending)):
                pending.append((files, pool.submit(decode_rows, files.paths, files.digests, spec)))
            if not pending:
                return
            files, result = pending.popleft()
            yield block_of(files.positions, *result.result())
    finally:
        pool.shutdown(cancel_futures=True)
