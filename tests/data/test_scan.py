"""Files are read once, and again where they have changed or could not be read."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from raylight.config.schema import DataConfig
from raylight.data import scan as scan_module
from raylight.data.index import build_index
from raylight.data.sources.source import find_images
from tests.data.scans import build, picture, row


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    original = scan_module._read_file
    monkeypatch.setattr(
        scan_module, "_read_file", lambda root, path, key: (seen.append(path), original(root, path, key))[1]
    )
    return seen


def test_every_kind_of_bad_file_is_found_with_its_reason(root: Path) -> None:
    whole = (root / "a" / "0.jpg").read_bytes()
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "a" / "cut.jpg").write_bytes(whole[:-40])
    (root / "b" / "text.png").write_text("not a picture")
    (root / "b" / "dead.jpg").symlink_to(root / "nowhere")
    (root / "b" / os.fsdecode(b"caf\xe9.jpg")).write_bytes(whole)
    os.mkfifo(root / "b" / "pipe.jpg")
    picture(7).save(root / "b" / "really_png.jpg", format="PNG")
    index = build(root)
    reasons = dict(index.rejected())
    assert set(reasons) == {"a/empty.jpg", "a/cut.jpg", "b/text.png", "b/dead.jpg", "b/caf\\xe9.jpg", "b/pipe.jpg"}
    assert "empty" in reasons["a/empty.jpg"]
    assert "cut off" in reasons["a/cut.jpg"]
    assert reasons["b/dead.jpg"] == "no such file"
    assert "UTF-8" in reasons["b/caf\\xe9.jpg"]
    assert reasons["b/pipe.jpg"] == "not a file"
    assert row(index, "b/really_png.jpg")["format"] == "PNG"
    assert len(index.usable()) == len(index) - 6
    bad = index.column("status") == "bad"
    assert not index.thumbnails[bad].any()
    assert index.thumbnails[~bad].reshape(len(index) - 6, -1).any(axis=1).all()


def test_unchanged_files_are_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / "a" / "bad.jpg").write_bytes(b"\xff\xd8broken")
    first = build(root)
    seen = reads(monkeypatch)
    again = build(root)
    assert seen == []
    assert again.table.equals(first.table)
    assert np.array_equal(again.thumbnails, first.thumbnails)


def test_only_what_changed_is_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = build(root)
    time.sleep(0.02)
    picture(50).save(root / "a" / "1.jpg")
    picture(51).save(root / "a" / "00.jpg")
    (root / "b" / "2.jpg").unlink()
    seen = reads(monkeypatch)
    after = build(root)
    assert sorted(seen) == ["a/00.jpg", "a/1.jpg"]
    assert list(after.column("path")) == ["a/0.jpg", "a/00.jpg", "a/1.jpg", "b/3.jpg"]
    assert row(after, "b/3.jpg") == row(before, "b/3.jpg")
    assert row(after, "a/1.jpg")["sha256"] != row(before, "a/1.jpg")["sha256"]
    assert np.array_equal(after.thumbnails[3], before.thumbnails[3])
    assert not np.array_equal(after.thumbnails[2], before.thumbnails[1])
    left = sorted(path.suffix for path in (root.parent / "cache" / "index").iterdir())
    assert left == [".lock", ".npy", ".parquet"]


def test_files_that_could_not_be_read_are_tried_again(root: Path) -> None:
    late = root / "a" / "late.jpg"
    late.symlink_to(root.parent / "late.jpg")
    assert dict(build(root).rejected()) == {"a/late.jpg": "no such file"}
    picture(60).save(root.parent / "late.jpg")
    assert build(root).rejected() == []


@pytest.mark.parametrize("damage", ["parquet", "npy", "missing npy"])
def test_damaged_memory_is_noticed_and_made_anew(root: Path, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    first = build(root)
    folder = root.parent / "cache" / "index"
    file = next(folder.glob("*.parquet" if damage == "parquet" else "*.npy"))
    content = file.read_bytes()
    file.unlink()
    if damage != "missing npy":
        file.write_bytes(content[:200])
    again = build(root)
    assert again.table.equals(first.table)
    assert np.array_equal(again.thumbnails, first.thumbnails)
    assert ("damaged" in caplog.text) == (damage != "missing npy")


def test_a_killed_build_leaves_nothing_that_stays(root: Path) -> None:
    build(root)
    folder = root.parent / "cache" / "index"
    key = next(folder.glob("*.parquet")).stem
    (folder / f"{key}-0123456789ab.npy").write_bytes(b"half")
    (folder / f".{key}-x.tmp.npy").write_bytes(b"half")
    (root / "a" / "0.jpg").unlink()
    assert len(build(root)) == 3
    assert len(list(folder.iterdir())) == 3


def test_progress_counts_every_file_once(root: Path) -> None:
    done: list[int] = []
    source = find_images(DataConfig(root=str(root)), root)
    build_index(source, root.parent / "cache", 2, done.append)
    assert sum(done) == 4
    done.clear()
    build_index(source, root.parent / "cache", 2, done.append)
    assert sum(done) == 4
