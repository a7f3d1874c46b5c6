"""The folders of image caches: their names, whether one is valid, and building one under a lock.

A cache is built in a temporary folder, which is renamed once it is complete. What killed processes leave is removed by the next
one that builds. Not here: the files in a folder (``cache_files``), opening a cache or decoding for it (``cache``).
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from jaxtyping import UInt8

from raylight.data.cache_files import PixelFile, read_cache, without_gaps
from raylight.data.decode.blocks import TRANSIENT_REASONS
from raylight.data.decode.image import CODE_VERSION
from raylight.data.decode.jpeg import RESIZER
from raylight.data.decode.spec import DecodeSpec
from raylight.storage.atomic import sync

Content = tuple[UInt8[np.ndarray, "image height width 3"], dict[str, int], dict[str, str]]
"""What ``read_cache`` returns: pixels, rows, and reasons of rejected files."""

_log = logging.getLogger(__name__)


def cache_key(digests: Sequence[str], spec: DecodeSpec) -> str:
    """The name of an image cache.

    Args:
        digests: SHA-256 of each distinct file content, sorted.
        spec: shape of each image.

    Returns:
        32 hexadecimal digits, which differ wherever the pixels might.
    """
    inputs: list[Any] = [
        list(digests),
        spec.size,
        spec.shorter_side,
        spec.resize,
        spec.interpolation,
        CODE_VERSION,
        RESIZER,
    ]
    if spec.resize == "pad":
        inputs.append(spec.fill)
    return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()[:32]


def rows_of_contents(digests: Sequence[str | None]) -> dict[str, int]:
    """The row of each content in a cache of these files.

    Args:
        digests: SHA-256 of each file; ``None`` for those that can't be used.

    Returns:
        The position of its first file, but without gaps; by SHA-256, in the order of rows.

    Example:
        >>> rows_of_contents(["b", None, "a", "b", "c"])
        {'b': 0, 'c': 1, 'a': 2}
    """
    return without_gaps(first_positions(digests))


def first_positions(digests: Sequence[str | None]) -> dict[str, int]:
    """The position of the first file of each content.

    Args:
        digests: SHA-256 of each file; ``None`` for those that can't be used.

    Returns:
        The positions, by SHA-256.
    """
    positions: dict[str, int] = {}
    for position, digest in enumerate(digests):
        if digest is not None:
            positions.setdefault(digest, position)
    return positions


def find(folder: Path, digests: Sequence[str], spec: DecodeSpec) -> tuple[Content | None, str | None]:
    """Opens the cache in a folder, if it is valid.

    Args:
        folder: of the cache; needn't exist.
        digests: SHA-256 of each distinct file content, sorted.
        spec: shape of each image.

    Returns:
        Its content, and ``None``; or ``None``, and what is wrong with it, if it exists.
    """
    if not folder.is_dir():
        return None, None
    try:
        content = read_cache(folder, digests, spec)
    except (OSError, ValueError, pa.ArrowException) as error:
        return None, f"it is damaged ({error})"
    if any(reason.startswith(TRANSIENT_REASONS) for reason in content[2].values()):
        return None, "some files could not be read when it was built"
    return content, None


def missing_bytes(images: Path, count: int, spec: DecodeSpec) -> str | None:
    """Compares the size of a cache with the free disk space.

    Args:
        images: parent folder of all caches.
        count: number of images.
        spec: shape of each image.

    Returns:
        What is needed and what is free, if the disk is too small.
    """
    needed, free = count * spec.image_bytes, shutil.disk_usage(images).free
    if free >= needed:
        return None
    return (
        f"{count:,} decoded images of {spec.height} x {spec.width} pixels need {needed:,} bytes in "
        f"{images}, where {free:,} are free."
    )


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Locks a cache's name; the kernel releases the lock however this process ends."""
    lock = _lock(folder)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _log.info("Another process is decoding the same images; waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def temporary(folder: Path) -> Iterator[Path]:
    """Makes the temporary folder in which a cache is built; removes the rest of it at the end.

    Also removes a damaged cache of this name, whose lock must be held, and what killed processes left of others.

    Args:
        folder: of the cache.

    Yields:
        The temporary folder beside it, empty.
    """
    building = _building(folder)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(building, ignore_errors=True)
    for left in folder.parent.glob(".*.building"):
        with contextlib.suppress(Timeout), _lock(folder.with_name(left.name.split(".")[1])).acquire(timeout=0):
            shutil.rmtree(left, ignore_errors=True)
    building.mkdir()
    try:
        yield building
    finally:
        shutil.rmtree(building, ignore_errors=True)


def publish(pixels: PixelFile, rows: dict[str, int]) -> None:
    """Makes a cache of pixels that were written before all contents were known; does nothing if there is one, or no image.

    Args:
        pixels: in a temporary folder beside the caches, which is renamed.
        rows: row of each distinct file content, by SHA-256.

    Raises:
        OSError: the cache can't be written.
    """
    if not rows:
        return
    digests = sorted(rows)
    folder = pixels.folder.with_name(cache_key(digests, pixels.spec))
    with exclusive(folder):
        content, fault = find(folder, digests, pixels.spec)
        if content is not None:
            return
        if fault:
            _log.warning("Rebuilding the image cache %s: %s", folder, fault)
        shutil.rmtree(folder, ignore_errors=True)
        pixels.finish(rows)
        pixels.folder.replace(folder)
        sync(folder.parent)


def _building(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.building")


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))
