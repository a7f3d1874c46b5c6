"""Good and bad files, and a session of Ray to decode them in."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.config.schema import RayConfig
from raylight.runs.ray_session import ray_session


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """60 good files of several kinds, then a cut-off, an empty, a missing and an unreadable one."""
    folder = tmp_path_factory.mktemp("mixed files, with spaces é")
    generator = np.random.default_rng(3)
    paths = []
    for number in range(60):
        width, height = generator.integers(20, 200, 2)
        pixels = np.cumsum(generator.integers(-3, 4, (height, width, 3)), axis=1) + 128
        image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
        kind, mode = (("jpg", "RGB"), ("png", "RGB"), ("jpg", "L"), ("gif", "P"), ("webp", "RGB"))[number % 5]
        paths.append(folder / f"{number}.{kind}")
        image.convert(mode).save(paths[-1])
    (folder / "cut.jpg").write_bytes(paths[0].read_bytes()[:-200])
    (folder / "empty.png").touch()
    (folder / "folder.jpg").mkdir()
    return [*paths, *(folder / name for name in ("cut.jpg", "empty.png", "missing.jpg", "folder.jpg"))]


@pytest.fixture(scope="module")
def session() -> Iterator[None]:
    """One Ray for all tests of this module."""
    with ray_session(RayConfig(object_store_gb=0.2), cpus=2):
        yield
