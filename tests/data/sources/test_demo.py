"""The demo is the same for everyone, charming within limits, and gives nothing away but by form."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.config.schema import DataConfig
from raylight.data.index import Index, build_index
from raylight.data.sources.demo import demo_root, draw_demo, draw_face
from raylight.data.sources.source import find_images


@pytest.fixture(scope="module")
def demo(own_cache: Path) -> Index:
    draw_demo(demo_root(own_cache))
    return build_index(find_images(DataConfig(kind="demo"), own_cache), own_cache, 2)


def digest(root: Path) -> dict[str, str]:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in root.rglob("*.*")}


def test_the_same_seed_draws_the_same_files(tmp_path: Path) -> None:
    draw_demo(tmp_path / "one", images=24, seed=3)
    draw_demo(tmp_path / "two", images=24, seed=3)
    draw_demo(tmp_path / "three", images=24, seed=4)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert len(digest(tmp_path / "one")) == 27
    assert not set(digest(tmp_path / "one").values()) & set(digest(tmp_path / "three").values()) - {
        hashlib.sha256(b"").hexdigest(),
        hashlib.sha256((tmp_path / "one/cat/broken_text.png").read_bytes()).hexdigest(),
    }


def test_an_abandoned_drawing_is_cleared_and_a_whole_one_kept(tmp_path: Path) -> None:
    (tmp_path / ".demo-abandoned" / "cat").mkdir(parents=True)
    draw_demo(tmp_path / "demo", images=4)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".demo.lock", "demo"]
    (tmp_path / "demo" / "mark").write_text("")
    draw_demo(tmp_path / "demo", images=4)
    assert (tmp_path / "demo" / "mark").exists()


def test_three_files_are_broken_in_three_ways(demo: Index) -> None:
    reasons = dict(demo.rejected())
    assert set(reasons) == {"cat/broken_empty.jpg", "cat/broken_text.png", "dog/broken_truncated.jpg"}
    assert "empty" in reasons["cat/broken_empty.jpg"]
    assert "not a whole image" in reasons["cat/broken_text.png"]
    assert "cut off" in reasons["dog/broken_truncated.jpg"]


def test_sizes_formats_and_colours_are_mixed(demo: Index) -> None:
    good = demo.usable()
    assert len(good) == 600
    for side in ("width", "height"):
        assert good.column(side).min() >= 90
        assert good.column(side).max() <= 260
        assert len(set(good.column(side))) > 100
    assert {(str(f), str(m)) for f, m in zip(good.column("format"), good.column("mode"), strict=True)} == {
        ("JPEG", "RGB"),
        ("JPEG", "L"),
        ("PNG", "RGB"),
        ("PNG", "L"),
    }


def test_nothing_but_the_picture_tells_the_class(demo: Index) -> None:
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    good = demo.usable()
    light = np.asarray(good.thumbnails).reshape(len(good), -1, 3)
    features = np.column_stack(
        [
            good.column("bytes"),
            good.column("width"),
            good.column("height"),
            good.column("width") / good.column("height"),
            good.column("format") == "PNG",
            good.column("mode") == "L",
            light.mean(axis=1),
            light.std(axis=1),
        ]
    )
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    forest = RandomForestClassifier(100, min_samples_leaf=5, random_state=0)
    right = cross_val_predict(forest, features, good.targets(), cv=folds) == good.targets()
    assert abs(right.mean() - 0.5) < 2.6 * 0.5 / np.sqrt(len(good))


@pytest.mark.parametrize("kind", ["cat", "dog"])
@pytest.mark.parametrize("size", [(90, 90), (260, 97)])
def test_a_face_has_the_size_asked_for(kind: str, size: tuple[int, int]) -> None:
    image = draw_face(kind, *size, np.random.default_rng(0))
    assert isinstance(image, Image.Image)
    assert image.size == size
    assert image.mode == "RGB"
    assert np.asarray(image).std() > 10


def test_form_tells_the_class(demo: Index) -> None:
    """A linear model on 32 x 32 outlines gets part of the way; the rest is for convolutions."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import cross_val_score

    good = demo.usable()
    grey = np.asarray(good.thumbnails).mean(axis=3)
    edges = np.abs(np.diff(grey, axis=1))[:, :, :-1] + np.abs(np.diff(grey, axis=2))[:, :-1]
    accuracy = cross_val_score(RidgeClassifier(1e6), edges.reshape(len(good), -1), good.targets(), cv=5)
    assert 0.7 < accuracy.mean() < 0.97
