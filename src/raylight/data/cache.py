"""Decoded images on disk, memory-mapped: made once, shared by epochs, runs and sweeps.

Covers finding, building and trusting a cache. The contents of the files, the shape and the version of the
decoding code name its folder, ``<cache_dir>/images/<key>``; paths, labels and splits don't matter. A cache is
whole under its name or not there: it is built under a lock, in a folder of another name, which is renamed at
the end.
"""

import contextlib
import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout
from jaxtyping import UInt8

from raylight.config.schema import DecodeConfig, RayConfig
from raylight.data.cache_files import read_cache, write_cache
from raylight.data.decode.image import CODE_VERSION, RESIZER, DecodeSpec
from raylight.data.engines import PASSING_REASONS
from raylight.data.index import Index
from raylight.errors import DataError, RaylightError
from raylight.storage.atomic import sync

if TYPE_CHECKING:
    from raylight.data.samples import Samples

_REMEDY = "Make room, or keep it elsewhere with cache_dir=FOLDER"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class ImageCache:
    """Decoded images, each distinct content once.

    Attributes:
        folder: where they are.
        pixels: read-only memory map; its pages belong to the system, not to this process.
        rows: row of each image, by the SHA-256 of its file.
        rejected: reason why a file has no row, by its SHA-256.
    """

    folder: Path
    pixels: UInt8[np.ndarray, "image height width 3"]
    rows: dict[str, int]
    rejected: dict[str, str]

    @property
    def key(self) -> str:
        """Names the images and the rows that they have."""
        return self.folder.name

    def samples(self, part: Index) -> "Samples":
        """The images of some files of the index."""
        from raylight.data.samples import Samples

        keys = tuple(part.column("sha256"))
        return Samples(self.pixels, np.array([self.rows[key] for key in keys], np.int64), part.targets(), keys)


def cached_images(
    index: Index,
    spec: DecodeSpec,
    decode: DecodeConfig,
    ray: RayConfig,
    cache_dir: Path,
    on_progress: Callable[[int, int], None],
) -> ImageCache:
    """Opens the cache of an index's usable files, building it first if it isn't there.

    Nothing is decoded and no Ray started when it is there. Of several processes that want the same one, one
    builds and the others wait for it. A damaged cache is rebuilt, with a warning in the log.

    Args:
        index: the files; only usable ones are decoded.
        spec: shape of each image.
        decode: engine and number of workers.
        ray: session for ``decode.engine=ray``.
        cache_dir: where caches are kept, below ``images``.
        on_progress: called with the number of images decoded so far and of all.

    Raises:
        DataError: the index has no usable file.
        RaylightError: the cache can't be written, or the disk has no room for it.
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
                _log.warning("The image cache %s is built again: %s", folder, fault)
            _remove_leftovers(folder)
            _check_room(folder, len(digests), spec)
            building = _building(folder)
            building.mkdir()
            try:
                write_cache(building, paths, spec, decode, ray, on_progress)
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
    """Name of the cache that holds these contents in this shape: 32 hexadecimal digits.

    Args:
        digests: SHA-256 of each distinct content, sorted.
        spec: shape of each image.
    """
    facts = [list(digests), spec.size, spec.resize, CODE_VERSION, RESIZER]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:32]


def _paths_by_content(index: Index) -> dict[str, list[str]]:
    """Where each distinct content of the usable files can be read."""
    usable = index.usable()
    paths: dict[str, list[str]] = {}
    for digest, path in zip(usable.column("sha256"), usable.column("path"), strict=True):
        paths.setdefault(digest, []).append(str(index.root / path))
    return paths


def _find(folder: Path, digests: Sequence[str], spec: DecodeSpec) -> tuple[ImageCache | None, str | None]:
    """The cache in a folder if it can be trusted, else what is wrong with it if it is there."""
    if not folder.is_dir():
        return None, None
    try:
        cache = ImageCache(folder, *read_cache(folder, digests, spec))
    except (OSError, ValueError, pa.ArrowException) as error:
        return None, f"it is damaged ({error})"
    if any(reason.startswith(PASSING_REASONS) for reason in cache.rejected.values()):
        return None, "some files could not be read when it was made"
    return cache, None


def _check_room(folder: Path, images: int, spec: DecodeSpec) -> None:
    needed, free = images * spec.size * spec.size * 3, shutil.disk_usage(folder.parent).free
    if free < needed:
        raise RaylightError(
            f"{images:,} decoded images of {spec.size} x {spec.size} pixels need {needed:,} bytes in "
            f"{folder.parent}, where {free:,} are free. {_REMEDY}"
        )


@contextlib.contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Holds the lock of a cache's name; the kernel frees it however its holder ends."""
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
    """Removes what is under this name, whose lock we hold, and what killed builders left under others."""
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
