"""Test images that training has met are named, with whom they were met."""

from pathlib import Path

from PIL import Image

from raylight.config.schema import DataConfig
from raylight.data.splits.leakage import SharedFile, shared_with_training
from raylight.data.splits.split import assign_splits
from tests.audit.test_files import clean, draw, index_of


def test_a_leaked_patient_and_a_leaked_picture(tmp_path: Path) -> None:
    root = clean(tmp_path / "d")
    draw(root / "train/dog/p1_a.png", 71)
    draw(root / "test/dog/p1_b.png", 72)
    with Image.open(root / "train/cat/cat0.png") as picture:
        picture.save(root / "test/cat/copy.jpg", quality=70)
    index = index_of(root, tmp_path, group_pattern=r"^(p\d)_")

    shared = shared_with_training(assign_splits(index, DataConfig(), 1))

    assert shared == (
        SharedFile("test/cat/copy.jpg", "train/cat/cat0.png", "picture", ""),
        SharedFile("test/dog/p1_b.png", "train/dog/p1_a.png", "patient", "p1"),
    )


def test_splits_that_we_cut_share_nothing(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for name in ("cat", "dog"):
        for i in range(20):
            draw(root / name / f"p{i // 2}{name}_{i}.png", i + 100 * (name == "dog"))
    index = index_of(root, tmp_path, group_pattern=r"^(p\d+\w+)_")
    for seed in range(5):
        assert shared_with_training(assign_splits(index, DataConfig(test_fraction=0.3), seed)) == ()
