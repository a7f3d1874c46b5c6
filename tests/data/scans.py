"""Indexes of drawn pictures."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raylight.config.schema import DataConfig
from raylight.data.index import INDEX_SCHEMA, Index, build_index
from raylight.data.sources.source import find_images


def picture(seed: int, width: int = 48, height: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BILINEAR)


def spoil(root: Path) -> None:
    """Add six files that can't be used, each for another reason, and a PNG named like a JPEG, beside ``a/0.jpg``."""
    whole = (root / "a" / "0.jpg").read_bytes()
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "a" / "cut.jpg").write_bytes(whole[:-40])
    (root / "b" / "text.png").write_text("not a picture")
    (root / "b" / "dead.jpg").symlink_to(root / "nowhere")
    (root / "b" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(whole)
    os.mkfifo(root / "b" / "pipe.jpg")
    picture(7).save(root / "b" / "really_png.jpg", format="PNG")


def build(root: Path, **settings: Any) -> Index:
    return build_index(find_images(DataConfig(root=str(root), **settings), root), root.parent / "cache", workers=2)


def row(index: Index, path: str) -> dict[str, Any]:
    position = list(index.column("path")).index(path)
    return {name: index.column(name)[position] for name in INDEX_SCHEMA.names}
