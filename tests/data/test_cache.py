"""The cache of decoded images: whole or not there, built once, never trusted when damaged."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

from raylight.config.schema import RayConfig
from raylight.data.cache import cached_images
from raylight.data.decode.blocks import Engine
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import DataError, RaylightError
from tests.data.caches import (
    SPEC,
    THREADS,
    Progress,
    assert_true,
    build,
    folders_in,
    index_of,
    own_memory,
    write_images,
)


def test_every_content_is_decoded_once_and_found_again(images: Path, tmp_path: Path) -> None:
    shutil.copy(images / "0003.png", images / "copy of 3.png")
    index = index_of(images)
    cache, progress = build(index, tmp_path)
    assert cache.pixels.shape == (30, 24, 24, 3)
    assert isinstance(cache.pixels, np.memmap)
    assert not cache.pixels.flags.writeable
    assert_true(cache, index)
    assert list(cache.rows) == sorted(cache.rows)
    assert progress.calls[-1] == (30, 30)
    assert [done for done, _ in progress.calls] == sorted({done for done, _ in progress.calls})

    again, progress = build(index, tmp_path)
    assert progress.calls == []
    assert again.folder == cache.folder
    assert_true(again, index)
    assert folders_in(tmp_path) == [cache.folder.name]


def test_opening_a_cache_starts_no_ray(images: Path, tmp_path: Path) -> None:
    index = index_of(images)
    build(index, tmp_path)
    before = "ray" in sys.modules and sys.modules["ray"].is_initialized()
    cached_images(index, SPEC, Engine("ray", ray=RayConfig(object_store_gb=0.001)), tmp_path, Progress())
    assert ("ray" in sys.modules and sys.modules["ray"].is_initialized()) == before


def test_names_do_not_matter_contents_and_shape_do(images: Path, tmp_path: Path) -> None:
    cache, _ = build(index_of(images), tmp_path)
    images.rename(tmp_path / "moved")
    (tmp_path / "moved" / "0000.png").rename(tmp_path / "moved" / "zzz.png")
    moved, progress = build(index_of(tmp_path / "moved"), tmp_path)
    assert (moved.folder, progress.calls) == (cache.folder, [])
    others = [
        build(index_of(tmp_path / "moved"), tmp_path, DecodeSpec(25, "crop"))[0],
        build(index_of(tmp_path / "moved"), tmp_path, DecodeSpec(24, "stretch"))[0],
        build(index_of(tmp_path / "moved", bad=("0001.png",)), tmp_path)[0],
    ]
    assert len({cache.folder, *(other.folder for other in others)}) == 4
    assert len(others[2].rows) == 29


def test_the_key_tells_caches_with_the_same_images_in_other_rows_apart(images: Path, tmp_path: Path) -> None:
    """Features are kept by row."""
    one, _ = build(index_of(images), tmp_path / "one")
    (images / "0000.png").rename(images / "zzz.png")
    other, _ = build(index_of(images), tmp_path / "other")
    assert other.folder.name == one.folder.name
    assert other.rows != one.rows
    assert other.key != one.key
    again, _ = build(index_of(images), tmp_path / "one")
    assert again.key == one.key


def test_bad_files_take_no_row(images: Path, tmp_path: Path) -> None:
    """Also many of them, in every place: the last images move to the rows that stayed empty."""
    for number in (0, 7, 8, 9, 23, 29):
        file = images / f"{number:04}.png"
        file.write_bytes(file.read_bytes()[:-40])
    index = index_of(images)
    cache, _ = build(index, tmp_path)
    assert cache.pixels.shape == (24, 24, 24, 3)
    assert len(cache.rejected) == 6
    assert all("cut off" in reason for reason in cache.rejected.values())
    assert_true(cache, index)
    again, progress = build(index, tmp_path)
    assert progress.calls == []
    assert again.rejected == cache.rejected
    assert_true(again, index)


def test_nothing_but_bad_files(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    for name in ("a.png", "b.jpg"):
        (tmp_path / "pictures" / name).write_text(f"not a picture: {name}")
    cache, _ = build(index_of(tmp_path / "pictures"), tmp_path)
    assert (cache.pixels.shape, len(cache.rejected)) == ((0, 24, 24, 3), 2)
    with pytest.raises(DataError, match=r"No image in .*pictures can be used"):
        build(index_of(tmp_path / "pictures", bad=("a.png", "b.jpg")), tmp_path)


BUILDER = """
import sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_cache import *
index = index_of(Path(sys.argv[2]))
behaviour = sys.argv[4]
def on_progress(done, total):
    print(done, flush=True)
    if behaviour == "wait":
        time.sleep(60)
print("ready", flush=True)
if behaviour == "race":
    sys.stdin.readline()
if behaviour == "limit":
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    cache = cached_images(index, SPEC, THREADS, Path(sys.argv[3]), on_progress)
except RaylightError as error:
    raise SystemExit(f"{error}")
assert_true(cache, index)
print("finished", flush=True)
"""


def builder(images: Path, cache_dir: Path, behaviour: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", BUILDER, str(Path(__file__).parent), str(images), str(cache_dir), behaviour]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)


@pytest.fixture
def killed(images: Path, tmp_path: Path) -> Path:
    """A cache folder in which a process was killed in the middle of building."""
    with builder(images, tmp_path / "cache", "wait") as process:
        assert process.stdout.readline() == "ready\n"
        assert int(process.stdout.readline()) > 0
        process.send_signal(signal.SIGKILL)
    return tmp_path / "cache"


def test_of_two_processes_one_builds_and_the_other_waits(images: Path, tmp_path: Path) -> None:
    with builder(images, tmp_path / "cache", "race") as one, builder(images, tmp_path / "cache", "race") as other:
        for process in (one, other):
            assert process.stdout.readline() == "ready\n"
        for process in (one, other):
            print(file=process.stdin, flush=True)
        ends = [process.communicate(timeout=60) for process in (one, other)]
    lines = [out.split() for out, _ in ends]
    assert sorted(len(line) for line in lines)[0] == 1, f"both decoded: {lines}"
    assert all(line[-1] == "finished" for line in lines), ends
    assert len(folders_in(tmp_path / "cache")) == 1


def test_what_a_killed_builder_left_is_not_trusted_and_removed(killed: Path, images: Path) -> None:
    assert [name[-9:] for name in folders_in(killed)] == [".building"]
    index = index_of(images)
    cache, progress = build(index, killed)
    assert progress.calls[-1] == (30, 30)
    assert_true(cache, index)
    assert folders_in(killed) == [cache.folder.name]


def test_builders_of_other_caches_clean_up_but_disturb_nobody(killed: Path, images: Path) -> None:
    (killed / "images" / ".busy.building").mkdir()
    with FileLock(killed / "images" / "busy.lock"):
        cache, _ = build(index_of(images, bad=("0000.png",)), killed)
    assert folders_in(killed) == [".busy.building", cache.folder.name]


def test_a_cache_folder_that_is_a_file(images: Path, tmp_path: Path) -> None:
    (tmp_path / "occupied").touch()
    with pytest.raises(RaylightError, match=r"can't be written: .*cache_dir=FOLDER"):
        build(index_of(images), tmp_path / "occupied")


def test_memory_stays_flat(tmp_path: Path) -> None:
    """150 MB of pixels pass through far less memory of this process's own."""
    spec = DecodeSpec(400, "stretch")
    write_images(tmp_path / "pictures", 320)
    index = index_of(tmp_path / "pictures")
    before, peak = own_memory(), 0

    def watch(done: int, total: int) -> None:
        nonlocal peak
        peak = max(peak, own_memory())

    cache = cached_images(index, spec, THREADS, tmp_path, watch)
    assert cache.pixels.nbytes > 150_000_000
    assert peak - before < 60_000_000
