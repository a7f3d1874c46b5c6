"""Odd names, links, and folders that cannot be read."""

import os
from pathlib import Path

import pytest

from raylight.data.names import single_line
from tests.data.sources.files import error, find, touch


def test_odd_names_and_links(tmp_path: Path) -> None:
    root = tmp_path / "root"
    touch(root, "a/\u00fc n\ni.jpg", "b/1.jpg", "a/.hidden.jpg", f"b/{'n' * 251}.jpg")
    (root / "a" / "up").symlink_to(root)
    (root / "a" / "further_up").symlink_to(tmp_path)
    (root / "a" / "self").symlink_to(root / "a")
    (root / "b" / "dead.jpg").symlink_to(root / "nowhere.jpg")
    (root / "b" / "loop.jpg").symlink_to(root / "b" / "loop.jpg")
    elsewhere = tmp_path / "elsewhere"
    touch(elsewhere, "linked.jpg")
    (root / "b" / "more").symlink_to(elsewhere)
    assert [file.path for file in find(root).files] == [
        "a/\u00fc n\ni.jpg",
        "b/1.jpg",
        "b/dead.jpg",
        "b/loop.jpg",
        "b/more/linked.jpg",
        f"b/{'n' * 251}.jpg",
    ]


def test_class_folder_whose_name_is_not_utf8_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", os.fsdecode(b"caf\xe9/1.jpg"))
    assert r"the class b'caf\xe9' isn't valid UTF-8" in error(tmp_path)


def test_class_folder_that_would_act_on_a_terminal_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b\x1b[2J/1.jpg")
    assert r"the class 'b\x1b[2J' holds control characters; rename its folder" in error(tmp_path)
    assert single_line("a\x1b[31m\n\u202eb/猫 é\udce9.png") == r"a\x1b[31m\n\u202eb/猫 é\xe9.png"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything; run the tests as another user")
def test_unreadable_folder_is_an_error_not_a_gap(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/more/2.jpg")
    (tmp_path / "b" / "more").chmod(0)
    try:
        assert f"The folder {tmp_path}/b/more can't be listed: Permission denied" in error(tmp_path)
    finally:
        (tmp_path / "b" / "more").chmod(0o755)
