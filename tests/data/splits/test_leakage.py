"""Test images that training has met are named, with whom they were met."""

from pathlib import Path

import pytest
from PIL import Image

from raylight.config.schema import DataConfig
from raylight.data.splits.leakage import SharedFile, patients_in_names, shared_with_training
from raylight.data.splits.split import assign_splits
from tests.auditing.test_files import clean, draw, index_of
from tests.data.splits.test_split import make_index


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


@pytest.mark.parametrize("duplicates", [True, False])
def test_patients_pictures_and_what_links_them(duplicates: bool) -> None:
    """0 to 4 are learnt, 5 to 10 tested; 11 is in no split, and links 4's patient with the picture of 9."""
    index = make_index(
        ["a"] * 12,
        ["p", "q", None, None, "r", "p", "q", None, None, None, "alone", "r"],
        ["train", "val", "train", "val", "train", "test", "test", "test", "test", "test", "test", None],
        content=[0, 1, 2, 3, 4, 5, 6, 2, 3, 9, 10, 9],
    )
    assert shared_with_training(index, duplicates) == (
        SharedFile("5.jpg", "0.jpg", "patient", "p"),
        SharedFile("6.jpg", "1.jpg", "patient", "q"),
        SharedFile("7.jpg", "2.jpg", "picture", ""),
        SharedFile("8.jpg", "3.jpg", "picture", ""),
        SharedFile("9.jpg", "4.jpg", "patient", ""),
    )


def test_pictures_of_other_bytes_count_as_duplicates_only_where_they_are_asked_for() -> None:
    index = make_index(["a"] * 2, splits=["test", "train"], content=[7, 7]).with_column("sha256", ["x", "y"])
    assert shared_with_training(index) == (SharedFile("0.jpg", "1.jpg", "picture", ""),)
    assert shared_with_training(index, duplicates=False) == ()


@pytest.mark.parametrize("split", ["train", "test", "val"])
def test_one_split_alone_shares_nothing(split: str) -> None:
    assert shared_with_training(make_index(["a"] * 2, ["p", "p"], [split] * 2)) == ()


def test_shared_files_are_in_the_order_of_their_paths() -> None:
    index = make_index(["a"] * 12, ["p"] * 12, ["train"] + ["test"] * 11)
    assert [one.path for one in shared_with_training(index)] == sorted(f"{i}.jpg" for i in range(1, 12))
    bad = make_index(["a"] * 3, ["p"] * 3, ["train", "test", "test"], bad=[1])
    assert [one.path for one in shared_with_training(bad)] == ["2.jpg"]


def test_series_are_guessed_from_names_of_several_kinds() -> None:
    paths = [
        "x/covid-19-day3.jpg",
        "NORMAL2-IM-0101-0001.jpeg",
        "Person12_bacteria_1.jpg",
        "my_Patient-07b.png",
        "dog.1.jpg",
    ]
    assert patients_in_names(paths) == ["covid-19", "NORMAL2-IM-0101", "Person12", "my_Patient-07", None]
