"""Every layout is recognised; what is ambiguous is refused."""

from pathlib import Path

from raylight.data.sources.source import find_images
from tests.data.sources.files import error, find, option, paths_ignored, rows, touch


def test_split_folders_keep_their_splits_in_every_usual_spelling(tmp_path: Path) -> None:
    touch(tmp_path, "Training/b/1.jpg", "Training/a/1.JPEG", "validation/a/2.png", "test_set/b/deep/er/3.jpg")
    source = find(tmp_path)
    assert source.layout == "split_folders"
    assert source.class_names == ("a", "b")
    assert source.positive_class == "b"
    assert rows(source) == [
        ("Training/a/1.JPEG", "a", "train"),
        ("Training/b/1.jpg", "b", "train"),
        ("test_set/b/deep/er/3.jpg", "b", "test"),
        ("validation/a/2.png", "a", "val"),
    ]


def test_petimages_folder_names_and_thumbs_db(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "PetImages/Cat/0.jpg",
        "PetImages/Dog/0.jpg",
        "PetImages/Cat/Thumbs.db",
        "readme[1].txt",
        "__MACOSX/Cat/0.jpg",
    )
    source = find_images(option("catsdogs", root=str(tmp_path)), tmp_path)
    assert source.root == tmp_path / "PetImages"
    assert source.class_names == ("Cat", "Dog")
    assert source.positive_class == "Dog"
    assert paths_ignored(source) == ["Cat/Thumbs.db"]


def test_kaggles_flat_names_with_unlabelled_test1(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "train/cat.0.jpg",
        "train/dog.0.jpg",
        "train/dog.1.jpg",
        "train/photo.jpg",
        "test1/1.jpg",
        "test1/2.jpg",
    )
    source = find(tmp_path)
    assert source.layout == "flat"
    assert rows(source) == [
        ("train/cat.0.jpg", "cat", None),
        ("train/dog.0.jpg", "dog", None),
        ("train/dog.1.jpg", "dog", None),
    ]
    assert paths_ignored(source) == ["test1/", "train/photo.jpg"]
    in_root = tmp_path / "train"
    assert [file.path for file in find(in_root).files] == ["cat.0.jpg", "dog.0.jpg", "dog.1.jpg"]


def test_flat_names_without_a_class_are_told(tmp_path: Path) -> None:
    touch(tmp_path, "cat.0.jpg", "dog.0.jpg", "cat_1.jpg", "dog_1.jpg", "readme.txt")
    assert [(item.path, item.likely_images) for item in find(tmp_path).ignored] == [
        ("cat_1.jpg", True),
        ("dog_1.jpg", True),
        ("readme.txt", False),
    ]


def test_two_layouts_at_once_are_not_guessed_between(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "x.0.jpg", "y.0.jpg", "y.1.jpg")
    message = error(tmp_path)
    assert f"data.root={tmp_path} data.layout=class_folders: 2 images, 2 classes (a, b)" in message
    assert f"data.root={tmp_path} data.layout=flat: 3 images, 2 classes (x, y)" in message
    assert find(tmp_path, layout="flat").class_names == ("x", "y")


def test_a_folder_of_data_sets_is_not_a_data_set(tmp_path: Path) -> None:
    touch(tmp_path, "one/train/a/1.jpg", "one/train/b/1.jpg", "two/train/c/1.jpg", "two/train/d/1.jpg")
    message = error(tmp_path)
    assert f"data.root={tmp_path}/one" in message
    assert f"data.root={tmp_path}/two" in message
    assert find(tmp_path / "two").class_names == ("c", "d")


def test_classes_named_like_splits_need_the_layout_spelled_out(tmp_path: Path) -> None:
    touch(tmp_path, "test/1.jpg", "control/1.jpg")
    assert "'test' is taken for a split" in error(tmp_path) or "one class only, 'control'" in error(tmp_path)
    assert find(tmp_path, layout="class_folders").class_names == ("control", "test")


def test_two_folders_for_one_split_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "valid/a/1.jpg")
    assert "two folders for val: 'val' and 'valid'" in error(tmp_path)
