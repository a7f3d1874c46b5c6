"""Files are read once, and again where they have changed or could not be read."""

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raylight.config.rules.targets import ALLOWING
from raylight.config.schema import DataConfig
from raylight.data.cache import cached_images
from raylight.data.decode import spec
from raylight.data.decode.image import ImageFile
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index, build_index
from raylight.data.scan import memory
from raylight.data.scan.memory import Decoding
from raylight.data.sources.source import find_images
from raylight.errors import RaylightError
from tests.data.caches import THREADS, Progress, assert_true, own_memory, write_images
from tests.data.scans import build, picture, row, spoil


def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    seen: list[str] = []
    original = memory.scan_file
    monkeypatch.setattr(
        memory, "scan_file", lambda root, path, *more: (seen.append(path), original(root, path, *more))[1]
    )
    return seen


def test_every_kind_of_bad_file_is_found_with_its_reason(root: Path) -> None:
    spoil(root)
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


SPEC = DecodeSpec(24, "crop")


def decoding_index(root: Path, cache_dir: Path, on_progress: Callable[[int, int], None] = lambda *_: None) -> Index:
    return build_index(
        find_images(DataConfig(root=str(root)), root), cache_dir, 2, decoding=Decoding(SPEC, on_progress)
    )


def contents(cache_dir: Path) -> list[bytes]:
    (folder,) = [path for path in (cache_dir / "images").iterdir() if path.is_dir()]
    return [(folder / name).read_bytes() for name in ("pixels.npy", "images.arrow")]


def test_one_pass_leaves_the_cache_that_decoding_alone_makes(root: Path, tmp_path: Path) -> None:
    """With files that are bad, twice there, or good but too large to be decoded."""
    for number in range(10, 30):
        picture(number).save(root / "a" / f"{number}.jpg")
    for name in ("a/0.jpg", "a/13.jpg", "b/99.jpg"):
        (root / name).write_bytes(b"")
    shutil.copy(root / "a" / "15.jpg", root / "a" / "150.jpg")
    shutil.copy(root / "a" / "29.jpg", root / "a" / "00.jpg")
    progress = Progress()
    index = decoding_index(root, tmp_path / "one", progress)
    assert progress.calls[-1] == (len(index), len(index)) == (27, 27)
    plain = build_index(find_images(DataConfig(root=str(root)), root), tmp_path / "two", 2)
    assert plain.table.equals(index.table)
    assert np.array_equal(plain.thumbnails, index.thumbnails)
    again = Progress()
    cache = cached_images(index, SPEC, THREADS, tmp_path / "one", again)
    assert again.calls == []
    assert_true(cache, index.usable(), SPEC)
    assert cache.key == cached_images(plain, SPEC, THREADS, tmp_path / "two", again).key
    assert again.calls[-1] == (22, 22)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_a_size_that_a_file_cannot_be_decoded_at_leaves_the_same_cache_too(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a/0.jpg", "b/5.jpg"):
        picture(7, 1800, 1900).save(root / name)
    monkeypatch.setattr(spec, "MAX_BYTES", 1800 * 1900)
    large = DecodeSpec(900, "stretch")
    source = find_images(DataConfig(root=str(root)), root)
    index = build_index(source, tmp_path / "one", 2, decoding=Decoding(large))
    assert index.rejected() == []
    progress = Progress()
    cache = cached_images(index, large, THREADS, tmp_path / "one", progress)
    assert progress.calls == []
    assert list(cache.rejected) == [row(index, "a/0.jpg")["sha256"]]
    cached_images(build_index(source, tmp_path / "two", 2), large, THREADS, tmp_path / "two", progress)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_each_image_is_read_once_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWING, "tests")
    opened: list[bytes] = []
    init = ImageFile.__init__
    monkeypatch.setattr(ImageFile, "__init__", lambda self, data: (opened.append(data), init(self, data))[1])
    node = {"_target_": "tests.data.packed.own.Logged", "count": 12, "log": str(tmp_path / "log")}
    index = build_index(
        find_images(DataConfig(name="own", source=node), tmp_path), tmp_path, 2, decoding=Decoding(SPEC)
    )
    cache = cached_images(index, SPEC, THREADS, tmp_path, Progress())
    assert len(cache.pixels) == 12
    assert sorted((tmp_path / "log").read_text().split()) == sorted(f"square/{number}" for number in range(12))
    assert len(opened) == len(set(opened)) == 12


def test_what_is_known_already_is_not_decoded_again(root: Path, tmp_path: Path) -> None:
    progress = Progress()
    decoding_index(root, tmp_path / "cache")
    decoding_index(root, tmp_path / "cache", progress)
    picture(50).save(root / "a" / "5.jpg")
    index = decoding_index(root, tmp_path / "cache", progress)
    assert (progress.calls, len(index)) == ([], 5)
    assert len(cached_images(index, SPEC, THREADS, tmp_path / "cache", progress).pixels) == 5
    assert progress.calls[-1] == (5, 5)


def test_a_disk_that_is_too_small_for_all_images_leaves_them_to_the_cache(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**6, 10**6, 24 * 24 * 3 * 4 - 1)
    )
    progress = Progress()
    index = decoding_index(root, tmp_path / "cache", progress)
    assert (progress.calls, len(index.usable())) == ([], 4)
    with pytest.raises(RaylightError, match=r"4 decoded images of 24 x 24 pixels need 6,912 bytes .* 6,911 are free"):
        cached_images(index, SPEC, THREADS, tmp_path / "cache", progress)


def test_a_pass_that_is_interrupted_leaves_nothing(root: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decoding_index(root, tmp_path / "cache", stop)
    left = [path.name for path in (tmp_path / "cache").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == ["patients.key"]
    assert_true(
        cached_images(decoding_index(root, tmp_path / "cache"), SPEC, THREADS, tmp_path / "cache", Progress()),
        build(root),
    )


KILLED = """
import os, signal, sys
from pathlib import Path
from tests.data.scan.test_memory import decoding_index
decoding_index(Path(sys.argv[1]), Path(sys.argv[2]), lambda done, total: os.kill(os.getpid(), signal.SIGKILL))
"""


def test_what_a_killed_pass_left_is_not_trusted_and_removed(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(root), str(tmp_path / "cache")]
    assert subprocess.run(command, cwd=Path(__file__).parents[3]).returncode == -signal.SIGKILL
    assert [path.suffix for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir()] == [".building"]
    progress = Progress()
    index = decoding_index(root, tmp_path / "cache", progress)
    assert progress.calls[-1] == (4, 4)
    cache = cached_images(index, SPEC, THREADS, tmp_path / "cache", Progress())
    assert_true(cache, index, SPEC)
    assert [path for path in (tmp_path / "cache" / "images").iterdir() if path.is_dir()] == [cache.folder]


def test_memory_stays_flat_while_pixels_are_written(tmp_path: Path) -> None:
    """150 MB of pixels pass through far less memory of this process's own."""
    for label in "ab":
        write_images(tmp_path / "pictures" / label, 160, ord(label))
    before, peak = own_memory(), 0

    def watch(done: int, total: int) -> None:
        nonlocal peak
        peak = max(peak, own_memory())

    source = find_images(DataConfig(root=str(tmp_path / "pictures")), tmp_path)
    index = build_index(source, tmp_path, 2, decoding=Decoding(DecodeSpec(400, "stretch"), watch))
    assert len(index.usable()) == 320
    assert peak - before < 60_000_000
