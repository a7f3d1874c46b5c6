"""Pictures, and the caches of decoded images that are made of them."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raylight.data.cache import ImageCache, cached_images
from raylight.data.decode.blocks import Engine
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import INDEX_SCHEMA, Index

SPEC = DecodeSpec(24, "crop")


THREADS = Engine("threads", 2)


def write_images(root: Path, count: int, seed: int = 0) -> None:
    generator = np.random.default_rng(seed)
    root.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(generator.integers(0, 255, (30, 40, 3), np.uint8)).save(root / f"{number:04}.png")


def index_of(root: Path, bad: tuple[str, ...] = ()) -> Index:
    """An index as ``build_index`` makes it, of all files below a folder."""
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    columns = {
        "path": [path.relative_to(root).as_posix() for path in paths],
        "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths],
        "status": ["bad" if path.name in bad else "ok" for path in paths],
    }
    table = pa.table(
        {
            name: pa.array(columns.get(name, [None] * len(paths)), kind)
            for name, kind in zip(INDEX_SCHEMA.names, INDEX_SCHEMA.types, strict=True)
        }
    )
    return Index(root, ("cat", "dog"), "dog", table, np.zeros((len(paths), 32, 32, 3), np.uint8))


class Progress:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def __call__(self, done: int, total: int) -> None:
        self.calls.append((done, total))


def build(index: Index, cache_dir: Path, spec: DecodeSpec = SPEC) -> tuple[ImageCache, Progress]:
    progress = Progress()
    return cached_images(index, spec, THREADS, cache_dir, progress), progress


def assert_true(cache: ImageCache, index: Index, spec: DecodeSpec = SPEC) -> None:
    """Each usable file has its own pixels or a reason; each row has one file."""
    for digest, path in zip(index.column("sha256"), index.column("path"), strict=True):
        if digest not in cache.rejected:
            pixels = decode_image((index.root / path).read_bytes(), spec)
            assert np.array_equal(cache.pixels[cache.rows[digest]], pixels), path
    assert sorted(cache.rows.values()) == list(range(len(cache.pixels)))
    assert not cache.rows.keys() & cache.rejected.keys()


def folders_in(cache_dir: Path) -> list[str]:
    return sorted(path.name for path in (cache_dir / "images").iterdir() if path.suffix != ".lock")


def own_memory() -> int:
    """Bytes of this process's own memory, without mapped files."""
    status = Path("/proc/self/status")
    if not status.is_file():
        pytest.skip("needs Linux to tell a process's own memory from mapped files")
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("RssAnon"))
