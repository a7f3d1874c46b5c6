"""What is set aside, and named."""

from pathlib import Path

import pytest

from raylight.data.sources.ignored import IgnoredEntry, group_ignored, not_an_image
from tests.data.sources.files import find, paths_ignored, touch


def test_unlabelled_test_folder_is_set_aside(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.jpg", "train/b/1.jpg", "test/1.jpg", "train/stray.jpg", "sample/x.jpg")
    source = find(tmp_path)
    assert len(source.files) == 2
    assert paths_ignored(source) == ["sample/", "test/", "train/stray.jpg"]


@pytest.mark.parametrize(
    ("path", "reason", "likely"),
    [
        ("cat/a.JXL", ".jxl isn't a supported image format; convert them to JPEG or PNG", True),
        ("cat/a.txt", ".txt isn't a supported image format", False),
        ("cat/a", "the name has no suffix (.jpg, .png, ...)", True),
        ("cat/a.jpg?w=1", "the name ends with the query of a URL, not with .jpg", True),
    ],
)
def test_the_suffix_says_why_a_file_is_no_image(path: str, reason: str, likely: bool) -> None:
    assert not_an_image(path, "cat") == IgnoredEntry(path, reason, "cat", likely)


def test_what_leaves_a_class_empty_comes_first_and_lost_images_before_the_rest() -> None:
    entries = [
        not_an_image(f"{name}/{file}", name) for name, file in (("cat", "a.txt"), ("cat", "b"), ("Dog", "c.txt"))
    ]
    groups = group_ignored([*entries, not_an_image("cat/d.txt", "cat")], ["cat"])
    assert [(group.label, group.class_is_empty, len(group.paths)) for group in groups] == [
        ("Dog", True, 1),
        ("cat", False, 1),
        ("cat", False, 2),
    ]
    assert groups[0].sentence.startswith("There is no class 'Dog', since no image of it is left: 1 file ignored")
    assert groups[2].sentence == (
        "2 files of the class 'cat' ignored, such as 'cat/a.txt': .txt isn't a supported image format."
    )
    assert not group_ignored([not_an_image("CAT/a.txt", "CAT")], ["cat"])[0].class_is_empty
