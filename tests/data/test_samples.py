"""Images in a store: read, and sent to other processes by the store's name."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.data.samples import Samples
from raylight.errors import DataError


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="only Linux tells what was read from a disk")
def test_images_are_read_from_disk_without_those_beside_them(tmp_path: Path) -> None:
    """On memory file systems nothing is read from a disk at all, and the order is all that is tested."""
    file = tmp_path / "images.npy"
    store = np.lib.format.open_memmap(file, "w+", np.uint8, (400, 224, 224, 3))
    store[:] = (np.arange(400) % 251).astype(np.uint8)[:, None, None, None]  # no holes
    store.flush()
    del store
    with file.open("rb") as content:
        os.fsync(content.fileno())
        os.posix_fadvise(content.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def read_from_disk() -> int:
        lines = Path("/proc/self/io").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))

    rows = np.array([390, 3, 200, 77, 310, 151, 42, 260, 119, 350])
    samples = Samples(np.load(file, mmap_mode="r"), rows, np.zeros(10, np.int64), ("",) * 10)
    before = read_from_disk()
    order = np.arange(10)[::-1]
    found = [int(picture[0, 0, 0]) for picture in samples.images(order, order)]
    assert found == (rows[order] % 251).tolist()
    assert read_from_disk() - before < 4 * 10 * 224 * 224 * 3


def test_mapped_images_are_sent_by_name_and_their_absence_is_explained(tmp_path: Path) -> None:
    file = tmp_path / "images" / "key" / "pixels.npy"
    file.parent.mkdir(parents=True)
    np.save(file, np.random.default_rng(1).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8))
    data = Samples(np.load(file, mmap_mode="r"), np.arange(50), np.arange(50) % 2, ("key",) * 50)
    packed = pickle.dumps(data)
    assert len(packed) < 5_000
    again = pickle.loads(packed)
    assert isinstance(again.store, np.memmap)
    assert np.array_equal(again.store, data.store)
    file.unlink()
    with pytest.raises(DataError, match=r"pixels\.npy can't be read on .*cache_dir=FOLDER, here .*data\.feed=stream"):
        pickle.loads(packed)


def test_class_balanced_samples_have_all_classes_equally_often_and_repetitions_keys_of_their_own() -> None:
    targets = np.array([0] * 900 + [2] * 100)
    samples = Samples(np.zeros((1000, 1), np.float32), np.arange(1000), targets, tuple(f"k{i}" for i in range(1000)))
    drawn = samples.class_balanced([1, 0])
    assert len(drawn) == 1000
    assert abs(int((drawn.targets == 2).sum()) - 500) < 5 * 16  # five standard deviations of a fair coin
    assert np.array_equal(targets[drawn.rows], drawn.targets)
    assert len(set(drawn.keys)) == 1000
    assert {key.partition("/")[0] for key in drawn.keys} == {f"k{i}" for i in drawn.rows}
    assert np.array_equal(samples.class_balanced([1, 0]).rows, drawn.rows)
    assert not np.array_equal(samples.class_balanced([1, 1]).rows, drawn.rows)
