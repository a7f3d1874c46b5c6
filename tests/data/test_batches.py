"""An epoch's order and pictures depend on (seed, epoch, image) alone; the loader's thread changes nothing."""

import threading

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.data.augment import Augmenter
from raylight.data.batches import Batches, Batching, Order, Shard
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
        torch.cat([batch.positions for batch in Batches(samples(), Batching(3), Order(1, epoch, shuffle=True))])
        for epoch in (0, 1, 0)
    )
    assert sorted(first.tolist()) == list(range(10))
    assert first.tolist() == again.tolist() != second.tolist()


def test_unchanged_images_are_the_store_in_channels_last_memory() -> None:
    data = samples()
    (batch,) = list(Batches(data, Batching(10)))
    assert torch.equal(batch.inputs.permute(0, 2, 3, 1), torch.from_numpy(data.store))
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_a_picture_changes_with_the_epoch_but_not_with_its_neighbours() -> None:
    data = samples()
    alone = Samples(data.store[3:4], np.arange(1), data.targets[3:4], data.keys[3:4])

    def picture(source: Samples, position: int, epoch: int) -> torch.Tensor:
        batches = Batches(source, Batching(4), Order(7, epoch, shuffle=True), augmenter=AUGMENTER)
        return next(b.inputs[list(b.positions).index(position)] for b in batches if position in b.positions)

    assert torch.equal(picture(data, 3, 0), picture(alone, 0, 0))
    assert not torch.equal(picture(data, 3, 0), picture(data, 3, 1))


def test_augmenting_leaves_the_networks_randomness_alone() -> None:
    """Dropout draws from the global generator in another thread at the same time."""
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    list(Batches(samples(), Batching(2), augmenter=AUGMENTER))
    assert torch.equal(torch.rand(4), expected)


@pytest.mark.parametrize(
    ("n", "least", "sizes"),
    [(7, 1, [3, 3, 1]), (7, 2, [3, 4]), (8, 2, [3, 3, 2]), (8, 4, [3, 5]), (6, 2, [3, 3]), (1, 2, [1]), (0, 2, [])],
)
def test_a_last_batch_that_is_too_small_is_joined_to_the_one_before(n: int, least: int, sizes: list[int]) -> None:
    batches, plain = (Batches(samples(n), Batching(3, size), Order(1, shuffle=True)) for size in (least, 1))
    made = [batch.positions.tolist() for batch in batches]
    assert [len(positions) for positions in made] == sizes
    assert len(batches) == len(sizes)
    assert np.concatenate([[], *made]).tolist() == [
        position for batch in plain for position in batch.positions.tolist()
    ]


def test_of_two_processes_none_gets_a_single_image() -> None:
    """Nine images in batches of four: the ninth would be one process's alone."""
    shards = [Batches(samples(9), Batching(4, 4, shard=Shard(rank, 2))) for rank in (0, 1)]
    assert [[len(batch.positions) for batch in shard] for shard in shards] == [[2, 3], [2, 2]]


def test_views_take_turns() -> None:
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    data = Samples(features, np.array([[0, 1], [2, 3], [4, 5]]), np.zeros(3, np.int64), ("a", "b", "c"))
    (even,), (odd,) = (list(Batches(data, Batching(3), Order(epoch=epoch))) for epoch in (0, 1))
    assert even.inputs[:, 0].tolist() == [0, 4, 8]
    assert odd.inputs[:, 0].tolist() == [2, 6, 10]


def test_an_error_in_the_thread_reaches_the_reader() -> None:
    class Broken(Augmenter):
        def __call__(self, image: torch.Tensor, key: str, turn: int) -> torch.Tensor:
            raise RuntimeError("the transform broke")

    with pytest.raises(RuntimeError, match="the transform broke"):
        list(Batches(samples(), Batching(2), augmenter=Broken([v2.Identity()], 1)))


def test_leaving_in_the_middle_ends_the_thread_and_keeps_the_threads_of_torch() -> None:
    before = torch.get_num_threads()
    iterator = iter(Batches(samples(100), Batching(1)))
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name == "raylight-batches"]
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("n", [1, 7, 8])
def test_shares_of_a_batch_are_the_batch(n: int) -> None:
    """Each sample once; as many batches in each process, however few samples there are."""
    whole = list(Batches(samples(n), Batching(3), Order(1, shuffle=True)))
    shares = [list(Batches(samples(n), Batching(3, shard=Shard(rank, 2)), Order(1, shuffle=True))) for rank in range(2)]
    assert [len(share) for share in shares] == [len(whole)] * 2
    for one, *parts in zip(whole, *shares, strict=True):
        together = sorted(torch.cat([part.positions for part in parts]).tolist())
        assert together == sorted(one.positions.tolist())
        assert all(part.inputs.shape[1:] == one.inputs.shape[1:] for part in parts)
