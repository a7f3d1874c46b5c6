"""The images (or features) of a split: their rows in a memory-mapped store, and reading them."""

import mmap
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from raylight.errors import DataError


@dataclass(frozen=True)
class _MemoryMap:
    """A memory map as it is pickled: by file name, not by content."""

    file: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, store: "np.memmap[Any, Any]") -> "_MemoryMap":
        base: Any = store.base
        if not isinstance(base, mmap.mmap):
            raise TypeError("only a whole memory map can be sent to another process")
        return cls(str(store.filename), store.dtype, store.shape, store.offset)

    def open(self) -> "np.memmap[Any, Any]":
        try:
            return np.memmap(self.file, self.dtype, "r", self.offset, self.shape)
        except (OSError, ValueError) as error:
            raise DataError(
                f"{self.file} can't be read on {socket.gethostname()} ({error}). All training processes read the decoded "
                f"images and features from there: keep them in a folder that every node sees under the same path "
                f"(cache_dir=FOLDER, here {Path(self.file).parent.parent.parent}), or train without it: data.feed=stream"
            ) from error


@dataclass(frozen=True)
class Samples:
    """The images (or features) of one split.

    Pickling passes the file name of a memory-mapped store, not its content.

    Attributes:
        store: images, uint8[row, height, width, 3], or features, float[row, ...]; usually memory-mapped.
        rows: row of each sample in the store, int64[sample] or int64[sample, view].
        targets: class numbers, int64[sample].
        keys: content hash per sample.
    """

    store: Shaped[np.ndarray, "row ..."]
    rows: Int64[np.ndarray, "sample ..."]
    targets: Int64[np.ndarray, " sample"]
    keys: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def are_images(self) -> bool:
        """Whether the store holds pixels, not features."""
        return self.store.dtype == np.uint8

    @property
    def n_rows(self) -> int:
        """Number of rows in the store; ``rows`` refers to them."""
        return len(self.store)

    def at(self, positions: Int64[np.ndarray, " chosen"]) -> "Samples":
        """The samples at some positions, of the same store.

        Args:
            positions: from 0, in any order.

        Returns:
            As many samples as positions, in their order.
        """
        keys = tuple(self.keys[position] for position in positions)
        return replace(self, rows=self.rows[positions], targets=self.targets[positions], keys=keys)

    def class_balanced(self, seed: list[int]) -> "Samples":
        """Draws as many samples with replacement, all classes with the same probability.

        A sample that is drawn again has a key of its own, so that it is augmented differently.

        Args:
            seed: of the draw.

        Returns:
            The drawn samples, in the order of this object's; of the same store.
        """
        counts = np.bincount(self.targets)
        probabilities = 1 / (counts[self.targets] * (counts > 0).sum())
        drawn = np.sort(np.random.default_rng([*seed, 2]).choice(len(self), len(self), p=probabilities))
        repeats = np.arange(len(drawn)) - np.searchsorted(drawn, drawn)
        keys = tuple(f"{self.keys[i]}/{n}" if n else self.keys[i] for i, n in zip(drawn, repeats, strict=True))
        return replace(self, rows=self.rows[drawn], targets=self.targets[drawn], keys=keys)

    def usage_order(self, read: Int64[np.ndarray, " sample"], seed: list[int]) -> Int64[np.ndarray, " sample"]:
        """The order in which images are used, given the order in which they are read: here the same.

        Args:
            read: positions in reading order.
            seed: of the shuffle buffer, if there is one.

        Returns:
            The same positions, in the order of use.
        """
        return read

    def images(
        self, wanted: Int64[np.ndarray, " wanted"], read: Int64[np.ndarray, " sample"]
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """Reads images, one by one.

        Args:
            wanted: positions of the images, in the order of use.
            read: positions of all images, in reading order; unused here.

        Yields:
            RGB, 0 to 255.
        """
        # One by one: fancy indexing of a memory map copies, and torch would copy again.
        rows = self.rows[wanted]
        with _random_access(self.store) as announce:
            for row in rows[:_ANNOUNCED]:
                announce(int(row))
            for number, row in enumerate(rows):
                if number + _ANNOUNCED < len(rows):
                    announce(int(rows[number + _ANNOUNCED]))
                yield self.store[row]

    def blocks(
        self, positions: Int64[np.ndarray, " chosen"], length: int | None = None
    ) -> Iterator[tuple[Int64[np.ndarray, " block"], Shaped[np.ndarray, "row ..."], Int64[np.ndarray, " block"]]]:
        """Reads samples, block by block.

        Args:
            positions: of the samples, in order.
            length: maximum number of samples per block; ``None`` leaves it to the store.

        Yields:
            The positions of a block's samples, an array that holds them, and their rows in it.
        """
        length = length or max(len(positions), 1)
        for start in range(0, len(positions), length):
            block = positions[start : start + length]
            yield block, self.store, self.rows[block]

    def __reduce__(self) -> tuple[Any, ...]:
        store = _MemoryMap.of(self.store) if isinstance(self.store, np.memmap) else self.store
        return _samples, (store, self.rows, self.targets, self.keys)


_ANNOUNCED = 64
"""Number of images that the system is asked to read ahead: a few batches."""


@contextmanager
def _random_access(store: Shaped[np.ndarray, "row ..."]) -> Iterator[Callable[[int], None]]:
    """Turns off the system's readahead of a memory-mapped file.

    Readahead is megabytes per row on some machines: if the file is larger than memory, it evicts pages that are still needed,
    and an epoch reads the file dozens of times. See madvise(2).

    Yields:
        A function that asks the system to read a row ahead.
    """
    mapped: Any = store.base
    if not (isinstance(store, np.memmap) and isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_RANDOM")):
        yield lambda row: None
        return
    first, length = int(store.offset) % mmap.ALLOCATIONGRANULARITY, int(store[0].nbytes)

    def announce(row: int) -> None:
        begin = first + row * length
        page = begin // mmap.PAGESIZE * mmap.PAGESIZE
        mapped.madvise(mmap.MADV_WILLNEED, page, begin + length - page)

    mapped.madvise(mmap.MADV_RANDOM)
    try:
        yield announce
    finally:
        mapped.madvise(mmap.MADV_NORMAL)


def _samples(store: Any, *rest: Any) -> Samples:
    return Samples(store.open() if isinstance(store, _MemoryMap) else store, *rest)
