"""Folders of pictures."""

from pathlib import Path

import pytest

from tests.data.caches import write_images
from tests.data.scans import picture


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    for number, label in enumerate("aabb"):
        (folder / label).mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / label / f"{number}.jpg")
    return folder


@pytest.fixture
def images(tmp_path: Path) -> Path:
    write_images(tmp_path / "pictures", 30)
    return tmp_path / "pictures"
