"""An epoch's order and pictures depend on (seed, epoch, image) alone; the loader's thread changes nothing."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from raylight.data.augment import Augmenter
from raylight.data.batches import Batches, Shard
from raylight.data.samples import Samples


def samples(n: int = 10, size: int = 8) -> Samples:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return Samples(pixels, np.arange(n), np.arange(n) % 2, tuple(f"hash{i}" for i in range(n)))


AUGMENTER = Augmenter(
    [v2.RandomHorizontalFlip(), v2.RandomAffine(20), v2.ColorJitter(0.5), v2.RandomErasing(0.5)], seed=1
)


def test_every_image_comes_once_an_epoch_in_an_order_of_its_own() -> None:
    first, second, again = (
        torch.cat([batch.positions for batch in Batches(samples(), 3, seed=1, epoch=epoch, shuffle=True)])
        for epoch in (0, 1, 0)
    )
    assert sorted(first.tolist()) == list(range(10))
    assert first.tolist() == again.tolist() != second.tolist()


def test_unchanged_images_are_the_store_in_channels_last_memory() -> None:
    data = samples()
    (batch,) = list(Batches(data, 10))
    assert torch.equal(batch.inputs.permute(0, 2, 3, 1), torch.from_numpy(data.store))
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_a_picture_changes_with_the_epoch_but_not_with_its_neighbours() -> None:
    data = samples()
    alone = Samples(data.store[3:4], np.arange(1), data.targets[3:4], data.keys[3:4])

    def picture(source: Samples, position: int, epoch: int) -> torch.Tensor:
        batches = Batches(source, 4, seed=7, epoch=epoch, shuffle=True, augmenter=AUGMENTER)
        return next(b.inputs[list(b.positions).index(position)] for b in batches if position in b.positions)

    assert torch.equal(picture(data, 3, 0), picture(alone, 0, 0))
    assert not torch.equal(picture(data, 3, 0), picture(data, 3, 1))


def test_augmenting_leaves_the_networks_randomness_alone() -> None:
    """Dropout draws from the global generator in another thread at the same time."""
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    list(Batches(samples(), 2, augmenter=AUGMENTER))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("n", "least", "sizes"),
    [(7, 1, [3, 3, 1]), (7, 2, [3, 4]), (8, 2, [3, 3, 2]), (8, 4, [3, 5]), (6, 2, [3, 3]), (1, 2, [1]), (0, 2, [])],
)
def test_a_last_batch_that_is_too_small_is_joined_to_the_one_before(n: int, least: int, sizes: list[int]) -> None:
    batches, plain = (Batches(samples(n), 3, seed=1, shuffle=True, least=size) for size in (least, 1))
    made = [batch.positions.tolist() for batch in batches]
    assert [len(positions) for positions in made] == sizes
    assert len(batches) == len(sizes)
    assert np.concatenate([[], *made]).tolist() == [
        position for batch in plain for position in batch.positions.tolist()
    ]


def test_of_two_processes_none_gets_a_single_image() -> None:
    """Nine images in batches of four: the ninth would be one process's alone."""
    shards = [Batches(samples(9), 4, least=4, shard=Shard(rank, 2)) for rank in (0, 1)]
    assert [[len(batch.positions) for batch in shard] for shard in shards] == [[2, 3], [2, 2]]


def test_views_take_turns() -> None:
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    data = Samples(features, np.array([[0, 1], [2, 3], [4, 5]]), np.zeros(3, np.int64), ("a", "b", "c"))
    (even,), (odd,) = (list(Batches(data, 3, epoch=epoch)) for epoch in (0, 1))
    assert even.inputs[:, 0].tolist() == [0, 4, 8]
    assert odd.inputs[:, 0].tolist() == [2, 6, 10]


def test_an_error_in_the_thread_reaches_the_reader() -> None:
    class Broken(Augmenter):
        def __call__(self, image: torch.Tensor, key: str, turn: int) -> torch.Tensor:
            raise RuntimeError("the transform broke")

    with pytest.raises(RuntimeError, match="the transform broke"):
        list(Batches(samples(), 2, augmenter=Broken([v2.Identity()], 1)))


def test_leaving_in_the_middle_ends_the_thread_and_keeps_the_threads_of_torch() -> None:
    before = torch.get_num_threads()
    iterator = iter(Batches(samples(100), 1))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "raylight-batches"]
    assert torch.get_num_threads() == before


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
