"""Images decoded each time they are wanted, for data that is larger than the disk or mustn't be written to it.

The counterpart of :mod:`raylight.data.cache`: the same function decodes the same bytes, so the images are the same, and an
epoch has each of them once. Files are read in the epoch's order; what is decoded waits in a buffer from which images
are drawn at random, so that neighbours in that order don't stay neighbours. Memory is bounded: the buffer, and the blocks
that the decoding engine has ahead.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from raylight.config.schema import DecodeConfig, RayConfig
from raylight.data.cache import cache_key
from raylight.data.decode.image import DecodeSpec
from raylight.data.engines import decode_files
from raylight.data.index import Index
from raylight.data.samples import Samples
from raylight.errors import DataError


@dataclass(frozen=True)
class StreamedSamples(Samples):
    """The images of one split, decoded each time; ``store`` is empty and only tells their shape.

    Attributes:
        paths: where each file is.
        of: images of all splits; ``rows`` counts among them.
        spec: shape of each image.
        decode: engine and number of workers.
        ray: session for ``decode.engine=ray``.
        buffer: images that wait to be drawn from; 0 uses them in the order in which they are read.
    """

    paths: tuple[str, ...]
    of: int
    spec: DecodeSpec
    decode: DecodeConfig
    ray: RayConfig
    buffer: int

    def __reduce__(self) -> tuple[Any, ...]:
        settings = (self.paths, self.of, self.spec, self.decode, self.ray, self.buffer)
        return StreamedSamples, (self.store, self.rows, self.targets, self.keys, *settings)

    @property
    def n_rows(self) -> int:
        """Rows that a store of these images would have."""
        return self.of

    def order_of_use(self, read: Int64[np.ndarray, " sample"], seed: list[int]) -> Int64[np.ndarray, " sample"]:
        """The order in which images leave the buffer."""
        return through_buffer(read, self.buffer, np.random.default_rng([*seed, 1])) if self.buffer else read

    def pictures(
        self, wanted: Int64[np.ndarray, " wanted"], read: Int64[np.ndarray, " sample"]
    ) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """The wanted images, read in one order and handed over in another; what comes early is held until its turn."""
        held: dict[int, UInt8[np.ndarray, "height width 3"]] = {}
        arriving = self._decoded(read[np.isin(read, wanted)])
        for position in wanted.tolist():
            while position not in held:
                positions, pixels = next(arriving)
                # Copied, since a single image would keep its whole block in Ray's object store.
                held |= zip(positions.tolist(), pixels.copy(), strict=True)
            yield held.pop(position)

    def blocks(
        self, positions: Int64[np.ndarray, " chosen"], length: int | None = None
    ) -> Iterator[
        tuple[Int64[np.ndarray, " block"], UInt8[np.ndarray, "row height width 3"], Int64[np.ndarray, " block"]]
    ]:
        """Decoded blocks, with the place of each image in them."""
        for block, pixels in self._decoded(positions):
            step = length or max(len(block), 1)
            for start in range(0, len(block), step):
                part = np.arange(start, min(start + step, len(block)))
                yield block[part], pixels, part

    def _decoded(
        self, positions: Int64[np.ndarray, " chosen"]
    ) -> Iterator[tuple[Int64[np.ndarray, " block"], UInt8[np.ndarray, "block height width 3"]]]:
        """Decodes some images, in order.

        Raises:
            DataError: a file isn't what it was when it was indexed; leaving it out would change what is learnt.
        """
        paths, digests = [self.paths[i] for i in positions], [self.keys[i] for i in positions]
        for block in decode_files(paths, self.spec, self.decode, self.ray, lambda _: None, digests, in_order=True):
            for place, why in zip(block.positions.tolist(), block.reasons, strict=True):
                if why is not None:
                    raise DataError(
                        f"{paths[place]}: {why}. With data.feed=stream the files must stay as they are until the run ends; "
                        "bring it back and go on with raylight resume RUN, or begin anew"
                    )
            yield positions[block.positions], block.pixels


@dataclass(frozen=True)
class Stream:
    """Makes the samples of a data set whose images aren't kept.

    Attributes:
        index: the files.
        spec: shape of each image.
        decode: engine and number of workers.
        ray: session for ``decode.engine=ray``.
        buffer: ``data.shuffle_buffer``.
    """

    index: Index
    spec: DecodeSpec
    decode: DecodeConfig
    ray: RayConfig
    buffer: int

    @property
    def key(self) -> str:
        """Names the images and the rows that they have."""
        return f"stream-{cache_key(self._digests().tolist(), self.spec)}"

    def samples(self, part: Index) -> StreamedSamples:
        """The images of some files of the index."""
        keys, digests = part.column("sha256"), self._digests()
        return StreamedSamples(
            store=np.empty((0, self.spec.size, self.spec.size, 3), np.uint8),
            rows=np.searchsorted(digests, keys),
            targets=part.targets(),
            keys=tuple(keys),
            paths=tuple(str(part.root / path) for path in part.column("path")),
            of=len(digests),
            spec=self.spec,
            decode=self.decode,
            ray=self.ray,
            buffer=self.buffer,
        )

    def _digests(self) -> Any:
        return np.unique(self.index.usable().column("sha256").astype(str))


def through_buffer(
    order: Int64[np.ndarray, " sample"], size: int, generator: np.random.Generator
) -> Int64[np.ndarray, " sample"]:
    """The order in which samples leave a buffer of a size, each time drawn at random from those in it.

    >>> through_buffer(np.arange(6), 3, np.random.default_rng(0))
    array([2, 1, 3, 0, 4, 5])
    """
    buffer, left = order[:size].copy(), np.empty_like(order)
    draws = generator.integers(0, np.minimum(size, np.arange(len(order), 0, -1)))
    filled = len(buffer)
    for turn, draw in enumerate(draws.tolist()):
        left[turn] = buffer[draw]
        if turn + size < len(order):
            buffer[draw] = order[turn + size]
        else:
            filled -= 1
            buffer[draw] = buffer[filled]
    return left
