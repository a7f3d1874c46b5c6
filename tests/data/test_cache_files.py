"""The files of a cache: built whole, by one, of the contents that were indexed, and never too large for their disk."""

import logging
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from raylight.data import cache_files
from raylight.data.cache import cached_images
from raylight.data.decode.image import decode_image
from raylight.errors import RaylightError
from tests.data.caches import SPEC, THREADS, assert_true, build, folders_in, index_of, write_images
from tests.data.test_cache import builder


def test_a_file_changed_since_it_was_indexed_is_not_taken_for_what_it_was(images: Path, tmp_path: Path) -> None:
    index = index_of(images)
    digest = index.column("sha256")[4]
    before = (images / "0004.png").read_bytes()
    shutil.copy(images / "0005.png", images / "0004.png")
    (images / "0011.png").unlink()
    cache, _ = build(index, tmp_path)
    assert cache.rejected == {
        digest: "changed since it was indexed",
        index.column("sha256")[11]: "can't be read: No such file or directory",
    }
    assert len(cache.pixels) == 28

    (images / "0004.png").write_bytes(before)
    write_images(images, 30)
    cache, progress = build(index, tmp_path)
    assert progress.calls[-1] == (30, 30)
    assert cache.rejected == {}
    assert_true(cache, index)


def test_another_place_of_the_same_content_is_tried(images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "0004.png", images / "another 4.png")
    shutil.copy(images / "0004.png", images / "third 4.png")
    index = index_of(images)
    (images / "0004.png").write_text("overwritten")
    (images / "another 4.png").unlink()
    cache, _ = build(index, tmp_path)
    assert cache.rejected == {}
    assert len(cache.pixels) == 30
    fourth = decode_image((images / "third 4.png").read_bytes(), SPEC)
    assert np.array_equal(cache.pixels[cache.rows[index.column("sha256")[4]]], fourth)


def _cut_pixels(folder: Path) -> None:
    os.truncate(folder / "pixels.npy", 5000)


def _lengthen_pixels(folder: Path) -> None:
    with (folder / "pixels.npy").open("ab") as file:
        file.write(b"more")


def _remove_sidecar(folder: Path) -> None:
    (folder / "images.arrow").unlink()


def _scribble_over_sidecar(folder: Path) -> None:
    (folder / "images.arrow").write_bytes(b"ARROW1\0\0" + bytes(500))


def _swap_sidecar(folder: Path) -> None:
    cache_files._write_sidecar(folder / "images.arrow", ["a", "b"], {"a": 0, "b": 1}, {})


def _point_two_images_at_one_row(folder: Path) -> None:
    with pa.OSFile(str(folder / "images.arrow")) as file:
        digests = pa.ipc.open_file(file).read_all()["sha256"].to_pylist()
    cache_files._write_sidecar(folder / "images.arrow", digests, dict.fromkeys(digests, 0), {})


@pytest.mark.parametrize(
    "damage",
    [
        _cut_pixels,
        _lengthen_pixels,
        _remove_sidecar,
        _scribble_over_sidecar,
        _swap_sidecar,
        _point_two_images_at_one_row,
    ],
)
def test_a_damaged_cache_is_built_again(
    damage: object, images: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = index_of(images)
    cache, _ = build(index, tmp_path)
    damage(cache.folder)
    with caplog.at_level(logging.WARNING):
        again, progress = build(index, tmp_path)
    assert progress.calls[-1] == (30, 30)
    assert_true(again, index)
    assert [
        record.getMessage()
        for record in caplog.records
        if record.getMessage().startswith("Rebuilding the image cache") and "it is damaged" in record.getMessage()
    ]
    assert folders_in(tmp_path) == [cache.folder.name]


def test_an_exception_while_building_leaves_nothing(images: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_images(index_of(images), SPEC, THREADS, tmp_path, stop)
    assert folders_in(tmp_path) == []
    assert_true(build(index_of(images), tmp_path)[0], index_of(images))


def test_a_file_that_must_not_grow_is_an_error_with_a_remedy(images: Path, tmp_path: Path) -> None:
    with builder(images, tmp_path / "cache", "limit") as process:
        _, message = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "can't be written: File too large" in message
    assert "cache_dir=FOLDER" in message
    assert folders_in(tmp_path / "cache") == []


def test_a_full_disk_is_an_error_with_figures_and_a_remedy(images: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk], capture_output=True).returncode:
        pytest.skip("needs the right to mount a small tmpfs (root)")
    try:
        (disk / "other").write_bytes(bytes(30_000))
        message = r"30 decoded images of 24 x 24 pixels need 51,840 bytes in .*cache_dir=FOLDER"
        with pytest.raises(RaylightError, match=message):
            build(index_of(images), disk)
        assert folders_in(disk) == []
        (disk / "other").unlink()
        assert_true(build(index_of(images), disk)[0], index_of(images))
    finally:
        subprocess.run(["umount", "-l", disk], check=True)
