"""From samples to batches: order, augmentation, and prefetching in a thread.

A batch holds decoded images or, above a freeze boundary, cached features. Images stay uint8; they are normalised on the
network's device.
"""

import queue
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int64, Shaped, UInt8
from torch import Tensor

from raylight.data.augment import Augmenter
from raylight.data.samples import Samples
from raylight.process import torch_threads, use_one_thread


class Batch(NamedTuple):
    """Images or features with their targets; empty where a small batch has no sample for this training process.

    Attributes:
        inputs: uint8[batch, 3, height, width] in channels-last memory, or float features[batch, ...].
        targets: int64[batch], class numbers.
        positions: int64[batch], position of each image in ``Samples``.
    """

    inputs: Shaped[Tensor, "batch ..."]
    targets: Int64[Tensor, " batch"]
    positions: Int64[Tensor, " batch"]

    def pinned(self) -> "Batch":
        """A copy in page-locked memory, from which a GPU copies while it computes."""
        return Batch(*(part.pin_memory() for part in self))


@dataclass(frozen=True)
class Shard:
    """The part of each batch that one training process takes.

    Attributes:
        rank: number of the process, from 0.
        world_size: number of processes.
    """

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class Batching:
    """How samples are divided into batches.

    Attributes:
        batch_size: samples per batch, over all training processes; the last batch of an epoch may be smaller.
        smallest: a last batch of fewer samples is merged into the one before.
        limit: maximum number of batches; ``None`` for all.
        shard: the part of each batch that this process takes.
    """

    batch_size: int
    smallest: int = 1
    limit: int | None = None
    shard: Shard = Shard()


@dataclass(frozen=True)
class Order:
    """The order of an epoch's samples.

    Attributes:
        seed: of the shuffling.
        epoch: its number, from 0; it determines order, augmentation and view.
        shuffle: whether the order is random.
    """

    seed: int = 0
    epoch: int = 0
    shuffle: bool = False


MAX_PREFETCHED = 4
"""Maximum number of prefetched batches."""


@dataclass
class WaitClock:
    """How long training has waited for batches.

    Attributes:
        waited: seconds spent waiting.
        batches: number of batches received.
        wall_start: when counting began, by ``time.perf_counter``, in seconds.
    """

    waited: float = 0.0
    batches: int = 0
    wall_start: float = field(default_factory=time.perf_counter)


class Batches:
    """The batches of an epoch, prefetched in a thread while the network computes.

    The order depends on (seed, epoch) alone, the augmentation on (seed, epoch, image). Several training processes each
    take a shard of every batch, so that together they see the same batches as one process would: no sample is repeated, and
    all processes have the same number of batches, some of which may be empty.

    Args:
        samples: images or features.
        batching: how they are divided into batches.
        order: of the samples.
        augmenter: applied per image; ``None`` for no augmentation.
        clock: measures the time spent waiting for batches.
        pin: put batches into page-locked memory, for a GPU.
    """

    def __init__(
        self,
        samples: Samples,
        batching: Batching,
        order: Order = Order(),
        *,
        augmenter: Augmenter | None = None,
        clock: WaitClock | None = None,
        pin: bool = False,
    ) -> None:
        self.samples, self.batching, self.order = samples, batching, order
        self.augmenter, self.clock, self.pin = augmenter, clock or WaitClock(), pin

    def __len__(self) -> int:
        return self._n_batches if self.batching.limit is None else min(self._n_batches, self.batching.limit)

    @property
    def _n_batches(self) -> int:
        full, rest = divmod(len(self.samples), self.batching.batch_size)
        return full + (rest >= self.batching.smallest or full == 0) if rest else full

    def __iter__(self) -> Iterator[Batch]:
        order, size, shard = self.order, self.batching.batch_size, self.batching.shard
        read = used = np.arange(len(self.samples))
        if order.shuffle:
            read = np.random.default_rng([order.seed, order.epoch]).permutation(len(self.samples))
            used = self.samples.usage_order(read, [order.seed, order.epoch])
        chunks = np.split(used, range(size, self._n_batches * size, size))
        own = [chunk[shard.rank :: shard.world_size] for chunk in chunks[: len(self)]]
        images: Iterator[UInt8[np.ndarray, "height width 3"]] = iter(())
        if own and self.samples.are_images:
            images = self.samples.images(np.concatenate(own), read)
        unpinned = (self._batch(chunk, images) for chunk in own)
        batches = (batch.pinned() if self.pin else batch for batch in unpinned)
        # Features take no time to load; a prefetching thread would cost more than it saves.
        yield from _prefetched(batches, self.clock) if self.samples.are_images else _timed(batches, self.clock)

    def _batch(
        self, positions: Int64[np.ndarray, " batch"], images: Iterator[UInt8[np.ndarray, "height width 3"]]
    ) -> Batch:
        samples = self.samples
        targets = torch.from_numpy(samples.targets[positions])
        if not samples.are_images:
            rows = samples.rows[positions]
            if rows.ndim == 2:
                rows = rows[:, self.order.epoch % rows.shape[1]]
            return Batch(torch.from_numpy(samples.store[rows]), targets, torch.from_numpy(positions))
        height, width = samples.store.shape[1:3]
        inputs = torch.empty((len(positions), 3, height, width), dtype=torch.uint8, memory_format=torch.channels_last)
        pixels = inputs.permute(0, 2, 3, 1).numpy()
        for row in range(len(positions)):
            pixels[row] = next(images)
        if self.augmenter:
            for row, position in enumerate(positions):
                inputs[row] = self.augmenter(inputs[row], samples.keys[position], self.order.epoch)
        return Batch(inputs, targets, torch.from_numpy(positions))


_END: Any = object()


def _timed(source: Iterator[Batch], clock: WaitClock) -> Iterator[Batch]:
    """Yields the batches of a source; the time it takes to make them counts as waiting."""
    while True:
        begin = time.perf_counter()
        item = next(source, None)
        clock.waited += time.perf_counter() - begin
        if item is None:
            return
        clock.batches += 1
        yield item


def _prefetched(source: Iterator[Batch], clock: WaitClock) -> Iterator[Batch]:
    """Prefetches batches of a source in a thread; its exceptions are raised here."""
    ready: queue.Queue[Any] = queue.Queue(MAX_PREFETCHED)
    stopped = threading.Event()

    def put(item: Any) -> bool:
        while not stopped.is_set():
            try:
                ready.put(item, timeout=0.1)
            except queue.Full:
                continue
            return True
        return False

    started = threading.Event()

    def work() -> None:
        try:
            use_one_thread()  # a second team of OpenMP threads would compete with the network's for the same cores
            started.set()
            for item in source:
                if not put(item):
                    return
        except BaseException as error:
            started.set()
            put(error)
            return
        put(_END)

    worker = threading.Thread(target=work, name="raylight-batches", daemon=True)
    with torch_threads():
        worker.start()
        started.wait()
    try:
        while True:
            begin = time.perf_counter()
            item = ready.get()
            clock.waited += time.perf_counter() - begin
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            clock.batches += 1
            yield item
    finally:
        stopped.set()
        worker.join()
