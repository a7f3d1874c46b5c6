"""Indexes of drawn pictures."""

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


def build(root: Path, **settings: Any) -> Index:
    return build_index(find_images(DataConfig(root=str(root), **settings), root), root.parent / "cache", workers=2)


def row(index: Index, path: str) -> dict[str, Any]:
    position = list(index.column("path")).index(path)
    return {name: index.column(name)[position] for name in INDEX_SCHEMA.names}
