"""The demo is the same for everyone, charming within limits, and gives nothing away but by form."""

import hashlib
from pathlib import Path

import numpy as np

from raylight.data.index import Index
from raylight.data.sources.demo import draw_demo


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
