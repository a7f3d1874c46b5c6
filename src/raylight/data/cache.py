"""Decoded images on disk, memory-mapped, shared by epochs, runs and sweeps.

PLACEHOLDER first version by the integrator; the decode colleague's full one replaces it.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock

from raylight.config.schema import DecodeConfig, RayConfig
from raylight.data.decode import CODE_VERSION, DecodeSpec
from raylight.data.engines import decode_files
from raylight.data.index import Index


@dataclass(frozen=True)
class ImageCache:
    """Decoded images."""

    folder: Path
    pixels: np.ndarray
    rows: dict[str, int]
    rejected: dict[str, str]


def cached_images(
    index: Index, spec: DecodeSpec, decode: DecodeConfig, ray: RayConfig, cache_dir: Path,
    on_progress: Callable[[int, int], None],
) -> ImageCache:
    """Open or build."""
    usable = index.usable()
    first = {}
    for digest, path in zip(usable.column("sha256"), usable.column("path"), strict=True):
        first.setdefault(digest, path)
    digests = sorted(first)
    key = hashlib.sha256(json.dumps([digests, spec.size, spec.resize, CODE_VERSION]).encode()).hexdigest()[:32]
    parent = cache_dir / "images"
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / key
    with FileLock(parent / f"{key}.lock"):
        if not folder.is_dir():
            tmp = parent / f".{key}.tmp"
            shutil.rmtree(tmp, ignore_errors=True)
            tmp.mkdir()
            pixels = np.lib.format.open_memmap(tmp / "pixels.npy", "w+", np.uint8, (len(digests), spec.size, spec.size, 3))
            rows, rejected, row, done = {}, {}, 0, 0
            for block in decode_files([index.root / first[d] for d in digests], spec, decode, ray, lambda n: None, digests):
                good = iter(block.pixels)
                for position, ok, reason in zip(block.positions, block.ok, block.reasons, strict=True):
                    if ok:
                        pixels[row] = next(good)
                        rows[digests[position]] = row
                        row += 1
                    else:
                        rejected[digests[position]] = reason
                done += len(block.positions)
                on_progress(done, len(digests))
            pixels.flush()
            (tmp / "rows.json").write_text(json.dumps([rows, rejected]))
            os.replace(tmp, folder)
    rows, rejected = json.loads((folder / "rows.json").read_text())
    return ImageCache(folder, np.load(folder / "pixels.npy", mmap_mode="r"), rows, rejected)
