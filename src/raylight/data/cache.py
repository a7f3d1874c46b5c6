"""Decoded images on disk, memory-mapped: built once, shared by epochs, runs and sweeps.

Finds, builds and checks a cache. Its folder is ``<cache_dir>/images/<key>``; the key depends on the contents of the files,
the image shape and the version of the decoding code, not on paths, labels or splits. A cache is built under a lock in a
temporary folder, which is renamed once it is complete.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from jaxtyping import UInt8

from raylight.data.cache_files import read_cache, write_cache
from raylight.data.decode.blocks import TRANSIENT_REASONS, Engine
from raylight.data.decode.image import CODE_VERSION
from raylight.data.decode.resizing import RESIZER
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index
from raylight.errors import DataError, RaylightError
from raylight.storage.atomic import sync

if TYPE_CHECKING:
    from raylight.data.samples import Samples

_REMEDY = "Free disk space, or choose another folder with cache_dir=FOLDER"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageCache:
    """Decoded images, one row per distinct file content.

    Attributes:
        folder: of the cache.
        pixels: read-only memory map; it doesn't count towards this process's own memory.
        rows: row of each image in ``pixels``, by SHA-256 of its file.
        rejected: the reason why a file has no row, by SHA-256.
    """

    folder: Path
    pixels: UInt8[np.ndarray, "image height width 3"]
    rows: dict[str, int]
    rejected: dict[str, str]

    @property
    def key(self) -> str:
        """Identifies the images and their rows."""
        return self.folder.name

    def samples(self, part: Index) -> "Samples":
        """The images of a part of the index, such as a split; all of them must be in the cache."""
        from raylight.data.samples import Samples

        keys = tuple(part.column("sha256"))
        return Samples(self.pixels, np.array([self.rows[key] for key in keys], np.int64), part.targets(), keys)


def cached_images(
    index: Index,
    spec: DecodeSpec,
    engine: Engine,
    cache_dir: Path,
    on_progress: Callable[[int, int], None],
) -> ImageCache:
    """Opens the image cache of an index; builds it first if there is none.

    If it exists, nothing is decoded and Ray isn't started. If several processes need the same cache, one builds it and the
    others wait. A damaged cache is rebuilt, with a warning in the log.

    Args:
        index: the files; only usable ones are decoded.
        spec: shape of each image.
        engine: what decodes.
        cache_dir: parent folder of ``images``, where caches are kept.
        on_progress: called with the number of images decoded so far, and the total.

    Returns:
        The cache, with a row or a reason per distinct file content.

    Raises:
        DataError: the index has no usable file.
        RaylightError: the cache can't be written, or the disk is too small.
    """
    paths = _paths_by_content(index)
    if not paths:
        raise DataError(f"No image in {index.root} can be used")
    digests = sorted(paths)
    folder = cache_dir / "images" / cache_key(digests, spec)
    cache, _ = _find(folder, digests, spec)
    if cache is not None:
        return cache
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _exclusive(folder):
            cache, fault = _find(folder, digests, spec)
            if cache is not None:
                return cache
            if fault:
                _log.warning("Rebuilding the image cache %s: %s", folder, fault)
            _remove_leftovers(folder)
            _check_disk_space(folder, len(digests), spec)
            building = _building(folder)
            building.mkdir()
            try:
                write_cache(building, paths, spec, engine, on_progress)
                building.replace(folder)
                sync(folder.parent)
            finally:
                shutil.rmtree(building, ignore_errors=True)
    except OSError as error:
        raise RaylightError(
            f"The image cache {folder} can't be written: {error.strerror or error}. {_REMEDY}"
        ) from error
    return ImageCache(folder, *read_cache(folder, digests, spec))


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


def _paths_by_content(index: Index) -> dict[str, list[str]]:
    """Paths of the usable files, by SHA-256 of their content."""
    usable = index.usable()
    paths: dict[str, list[str]] = {}
    for digest, path in zip(usable.column("sha256"), usable.column("path"), strict=True):
        paths.setdefault(digest, []).append(str(index.root / path))
    return paths


def _find(folder: Path, digests: Sequence[str], spec: DecodeSpec) -> tuple[ImageCache | None, str | None]:
    """Returns the cache in a folder, if it is valid; else what is wrong with it, if it exists."""
    if not folder.is_dir():
        return None, None
    try:
        cache = ImageCache(folder, *read_cache(folder, digests, spec))
    except (OSError, ValueError, pa.ArrowException) as error:
        return None, f"it is damaged ({error})"
    if any(reason.startswith(TRANSIENT_REASONS) for reason in cache.rejected.values()):
        return None, "some files could not be read when it was built"
    return cache, None


def _check_disk_space(folder: Path, n_images: int, spec: DecodeSpec) -> None:
    needed, free = n_images * spec.image_bytes, shutil.disk_usage(folder.parent).free
    if free < needed:
        raise RaylightError(
            f"{n_images:,} decoded images of {spec.height} x {spec.width} pixels need {needed:,} bytes in "
            f"{folder.parent}, where {free:,} are free. {_REMEDY}"
        )


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
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


def _remove_leftovers(folder: Path) -> None:
    """Removes this damaged cache, whose lock is held, and what killed processes left of others."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.rmtree(_building(folder), ignore_errors=True)
    for building in folder.parent.glob(".*.building"):
        with (
            contextlib.suppress(Timeout),
            _lock(folder.with_name(building.name.split(".")[1])).acquire(timeout=0),
        ):
            shutil.rmtree(building, ignore_errors=True)


def _building(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.building")


def _lock(folder: Path) -> FileLock:
    return FileLock(folder.with_name(f"{folder.name}.lock"))
