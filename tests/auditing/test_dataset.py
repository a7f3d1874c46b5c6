"""An audit of a data set: what it finds in drawings without a fault, and what it remembers."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.auditing.dataset import Audit, audit_index
from raylight.config.schema import DataConfig
from raylight.data.index import Index, build_index
from raylight.data.sources.demo import draw_demo
from raylight.data.sources.source import find_images


def pictures(root: Path, brighter: int = 0, suffixes: tuple[str, str] = ("png", "png"), each: int = 30) -> Path:
    """Noise of two classes that differ in nothing but what is asked for."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for i in range(each):
            height, width = rng.integers(40, 80, 2)
            level = rng.integers(80, 140) + k * brighter
            pixels = rng.normal(level, 25, (height, width, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.{suffixes[k]}")
    return root


def index_of(root: Path, cache: Path) -> Index:
    return build_index(find_images(DataConfig(root=str(root)), cache), cache, 2)


def audited(root: Path, cache: Path) -> Audit:
    return audit_index(index_of(root, cache), "planted", cache)


@pytest.mark.parametrize("seed", range(20))
def test_clean_drawings_raise_no_alarm(seed: int, tmp_path: Path) -> None:
    draw_demo(tmp_path / "demo", images=24, seed=seed)
    for broken in (tmp_path / "demo").glob("*/broken_*"):
        broken.unlink()
    audit = audited(tmp_path / "demo", tmp_path / "c")
    assert audit.findings == ()
    assert audit.metadata_baseline is not None


def test_an_audit_is_remembered_by_content_and_forgotten_with_it(tmp_path: Path) -> None:
    root, cache = pictures(tmp_path / "d", each=12), tmp_path / "c"
    first = audited(root, cache)
    again = audited(root, cache)
    assert again.seconds == 0 < first.seconds
    assert again.as_json() | {"seconds": 0} == first.as_json() | {"seconds": 0}

    (root / "cat/0.png").rename(root / "dog/moved.png")
    assert audited(root, cache).seconds > 0

    (memory,) = [
        path for path in (cache / "audit").iterdir() if json.loads(path.read_text())["seconds"] == first.seconds
    ]
    memory.write_text("{")
    (root / "dog/moved.png").rename(root / "cat/0.png")
    assert audited(root, cache).findings == first.findings
