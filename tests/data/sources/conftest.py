"""The demo data, drawn once."""

from pathlib import Path

import pytest

from raylight.config.schema import DataConfig
from raylight.data.index import Index, build_index
from raylight.data.sources.demo import demo_root, draw_demo
from raylight.data.sources.source import find_images


@pytest.fixture(scope="package")
def demo(own_cache: Path) -> Index:
    draw_demo(demo_root(own_cache))
    return build_index(find_images(DataConfig(kind="demo"), own_cache), own_cache, 2)
