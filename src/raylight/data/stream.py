"""Decoding images again in each epoch, for data that doesn't fit on the disk or must not be written to it.

The alternative to :mod:`raylight.data.cache`: the same function decodes the same bytes, so the images are identical, and
each occurs once per epoch. Decoded images pass through a shuffle buffer. Memory use is bounded by the buffer and the
blocks that the decoding engine prefetches.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from raylight.data.cache_building import cache_key
from raylight.data.decode.blocks import Engine
from raylight.data.decode.engines import decode_files
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index
from raylight.data.samples import Samples
from raylight.errors import DataError


@dataclass(frozen=True)
class StreamedSamples(Samples):
    """The images of one split, decoded in each epoch; ``store`` is empty and only gives their shape.

    Attributes:
        paths: of the files.
        n_distinct: number of distinct images in all splits; ``rows`` refers to them.
        spec: shape of each image.
        engine: what decodes.
        buffer: number of images in the shuffle buffer; 0 for reading order.
    """

    paths: tuple[str, ...]
    n_distinct: int
    spec: DecodeSpec
    engine: Engine
    buffer: int

    def __reduce__(self) -> tuple[Any, ...]:
        settings = (self.paths, self.n_distinct, self.spec, self.engine, self.buffer)
        return StreamedSamples, (self.store, self.rows, self.targets, self.keys, *settings)

    @property
    def n_rows(self) -> int:
        """Number of rows that a store of these images would have."""
        return self.n_distinct

    def usage_order(self, read: Int64[np.ndarray, " sample"], seed: list[int]) -> Int64[np.ndarray, " sample"]:
        """See ``Samples``: the order in which images leave the shuffle buffer."""
        return buffered_order(read, self.buffer, np.random.default_rng([*seed, 1])) if self.buffer else read

    def images(
        self, wanted: Int64[np.ndarray, " wanted"], read: Int64[np.ndarray, " sample"]
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """See ``Samples``; images that are decoded before they are used are buffered."""
        buffered: dict[int, UInt8[np.ndarray, "height width 3"]] = {}
        blocks = self._decoded(read[np.isin(read, wanted)])
        for position in wanted.tolist():
            while position not in buffered:
                positions, pixels = next(blocks)
                # Copied, since a single image would keep its whole block in Ray's object store.
                buffered |= zip(positions.tolist(), pixels.copy(), strict=True)
            yield buffered.pop(position)

    def blocks(
        self, positions: Int64[np.ndarray, " chosen"], length: int | None = None
    ) -> Iterator[
        tuple[Int64[np.ndarray, " block"], UInt8[np.ndarray, "row height width 3"], Int64[np.ndarray, " block"]]
    ]:
        """See ``Samples``; the arrays are decoded blocks."""
        for block, pixels in self._decoded(positions):
            step = length or max(len(block), 1)
            for start in range(0, len(block), step):
                part = np.arange(start, min(start + step, len(block)))
                yield block[part], pixels, part

    def _decoded(
        self, positions: Int64[np.ndarray, " chosen"]
    ) -> Iterator[tuple[Int64[np.ndarray, " block"], UInt8[np.ndarray, "block height width 3"]]]:
        """Decodes images in order, block by block; a file that has changed is an error, since training would change, too."""
        paths, digests = [self.paths[i] for i in positions], [self.keys[i] for i in positions]
        for block in decode_files(paths, self.spec, self.engine, digests, in_order=True):
            for position, reason in zip(block.positions.tolist(), block.reasons, strict=True):
                if reason is not None:
                    raise DataError(
                        f"{paths[position]}: {reason}. With data.feed=stream the files must not change until the run ends; "
                        "restore it and continue with raylight resume RUN, or start a new run"
                    )
            yield positions[block.positions], block.pixels


@dataclass(frozen=True)
class Stream:
    """Makes the samples of a data set without storing its images; takes the place of ``ImageCache``.

    Attributes:
        index: the files.
        spec: shape of each image.
        engine: what decodes.
        buffer: number of images in the shuffle buffer (``data.shuffle_buffer``).
    """

    index: Index
    spec: DecodeSpec
    engine: Engine
    buffer: int

    @property
    def key(self) -> str:
        """Identifies the images and their rows."""
        return f"stream-{cache_key(self._digests().tolist(), self.spec)}"

    def samples(self, part: Index) -> StreamedSamples:
        """The images of a part of the index."""
        keys, digests = part.column("sha256"), self._digests()
        return StreamedSamples(
            store=np.empty((0, *self.spec.image_shape), np.uint8),
            rows=np.searchsorted(digests, keys),
            targets=part.targets(),
            keys=tuple(keys),
            paths=tuple(str(part.root / path) for path in part.column("path")),
            n_distinct=len(digests),
            spec=self.spec,
            engine=self.engine,
            buffer=self.buffer,
        )

    def _digests(self) -> Any:
        return np.unique(self.index.usable().column("sha256").astype(str))


def buffered_order(
    order: Int64[np.ndarray, " sample"], size: int, generator: np.random.Generator
) -> Int64[np.ndarray, " sample"]:
    """The order in which samples leave a shuffle buffer, drawn at random from it.

    Args:
        order: positions in the order in which they enter.
        size: of the buffer, at least 1.
        generator: source of the draws.

    Returns:
        The same positions, shuffled.

    Example:
        >>> buffered_order(np.arange(6), 3, np.random.default_rng(0))
        array([2, 1, 4, 0, 3, 5])
    """
    buffer, shuffled = order[:size].copy(), np.empty_like(order)
    draws = generator.integers(0, np.minimum(size, np.arange(len(order), 0, -1)))
    filled = len(buffer)
    for step, draw in enumerate(draws.tolist()):
        shuffled[step] = buffer[draw]
        if step + size < len(order):
            buffer[draw] = order[step + size]
        else:
            filled -= 1
            buffer[draw] = buffer[filled]
    return shuffled
