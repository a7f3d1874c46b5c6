"""Decoded images on disk, memory-mapped: built once, shared by epochs, runs and sweeps.

Its folder is ``<cache_dir>/images/<key>``; the key depends on the contents of the files, the image shape and the version of the
decoding code, not on paths, labels or splits. Where files are indexed for the first time, the same pass has decoded them.
Not here: locks and temporary folders (``cache_building``), the files (``cache_files``).
"""

import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import UInt8

from raylight.data.cache_building import cache_key, exclusive, find, missing_bytes, rows_of_contents, temporary
from raylight.data.cache_files import read_cache, write_cache
from raylight.data.decode.blocks import Engine
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
        """Identifies the images and their rows, which are in the order of the files that they were decoded from."""
        order = hashlib.sha256(json.dumps(list(self.rows.items())).encode())
        return f"{self.folder.name}-{order.hexdigest()[:16]}"

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
    content, _ = find(folder, digests, spec)
    if content is not None:
        return ImageCache(folder, *content)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with exclusive(folder):
            content, fault = find(folder, digests, spec)
            if content is not None:
                return ImageCache(folder, *content)
            if fault:
                _log.warning("Rebuilding the image cache %s: %s", folder, fault)
            with temporary(folder) as building:
                if problem := missing_bytes(folder.parent, len(digests), spec):
                    raise RaylightError(f"{problem} {_REMEDY}")
                write_cache(building, paths, spec, engine, on_progress)
                building.replace(folder)
                sync(folder.parent)
    except OSError as error:
        raise RaylightError(
            f"The image cache {folder} can't be written: {error.strerror or error}. {_REMEDY}"
        ) from error
    return ImageCache(folder, *read_cache(folder, digests, spec))


def _paths_by_content(index: Index) -> dict[str, list[str]]:
    """Paths of the usable files by SHA-256 of their content, in the order of rows."""
    known = zip(index.column("sha256"), index.column("status"), strict=True)
    digests = [digest if status == "ok" else None for digest, status in known]
    paths: dict[str, list[str]] = {digest: [] for digest in rows_of_contents(digests)}
    for digest, path in zip(digests, index.column("path"), strict=True):
        if digest is not None:
            paths[digest].append(str(index.root / path))
    return paths
