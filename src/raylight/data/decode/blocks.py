"""The files of one block: splitting, reading, decoding one after the other, and the result."""

import hashlib
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from raylight.config.schema import RayConfig
from raylight.config.uris import is_uri
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError
from raylight.machine import keep_freed_memory
from raylight.storage.remote import AnyPath, to_path

TRANSIENT_REASONS: Final = ("can't be read", "changed since it was indexed")
"""How the reasons of transient errors begin; such errors say nothing about a file's content."""

MIN_BLOCKS_PER_WORKER: Final = 4
"""As long as there are enough files; so that all workers finish at about the same time."""


@dataclass(frozen=True)
class Engine:
    """What decodes: threads of this process, or Ray Data.

    Attributes:
        name: ``threads`` or ``ray``.
        workers: number of tasks at a time; ``None`` for one per core.
        ray: the session that ``ray`` starts or joins.
    """

    name: str = "threads"
    workers: int | None = None
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        if self.name not in ("threads", "ray"):
            raise ValueError(f"decode.engine={self.name!r}: expected 'ray' or 'threads'")


THREADS: Final = Engine()
"""This process's threads, one per core."""


@dataclass(frozen=True)
class DecodedBlock:
    """The result of decoding some of the files.

    Attributes:
        positions: positions of these files among all that are decoded.
        pixels: the images that are ``ok``, in the order of ``positions``; RGB, 0 to 255.
        ok: whether each file is a usable image.
        reasons: why a file isn't usable, else ``None``.
        written: whether a worker has already written the images to their destination; then ``pixels`` is empty.
    """

    positions: Int64[np.ndarray, " file"]
    pixels: UInt8[np.ndarray, "good height width 3"]
    ok: Bool[np.ndarray, " file"]
    reasons: tuple[str | None, ...]
    written: bool = False


@dataclass(frozen=True)
class Destination:
    """An array file that workers write images to directly, if they can reach it.

    Attributes:
        file: its path; unique over all machines, since workers recognise the file by it.
        offset: of the first row, in bytes.
        rows: row of each image in the array.
    """

    file: Path
    offset: int
    rows: Int64[np.ndarray, " file"]


@dataclass(frozen=True)
class FileBlock:
    """Some of the files, not yet decoded.

    Attributes:
        positions: positions of these files among all that are decoded.
        paths: of the files.
        digests: expected SHA-256 of each file; ``""`` accepts any content.
    """

    positions: Int64[np.ndarray, " file"]
    paths: tuple[str, ...]
    digests: tuple[str, ...]


def split_files(
    paths: Sequence[AnyPath | str],
    digests: Sequence[str] | None,
    spec: DecodeSpec,
    workers: int,
    max_bytes: int,
) -> Iterator[FileBlock]:
    """Splits files into blocks that fit into memory and keep all workers busy.

    Args:
        paths: of all files.
        digests: expected SHA-256 of each file; ``None`` accepts any content.
        spec: shape of each image.
        workers: number of blocks decoded at a time.
        max_bytes: maximum decoded size of a block; at least one image is in it.

    Yields:
        Blocks of neighbouring files that together contain each file once.
    """
    length = block_length(len(paths), spec, workers * MIN_BLOCKS_PER_WORKER, max_bytes)
    for start in range(0, len(paths), length):
        stop = min(start + length, len(paths))
        yield FileBlock(
            np.arange(start, stop),
            tuple(str(path) for path in paths[start:stop]),
            tuple(digests[start:stop]) if digests is not None else ("",) * (stop - start),
        )


def block_length(count: int, spec: DecodeSpec, blocks: int, max_bytes: int) -> int:
    """Number of files per block, so that blocks fit into memory and keep all workers busy.

    Args:
        count: number of files.
        spec: shape of each image.
        blocks: number of blocks at least, if there are as many files.
        max_bytes: maximum decoded size of a block; at least one image is in it.

    Returns:
        At least 1.

    Example:
        >>> spec = DecodeSpec(100, "stretch")  # 30,000 bytes
        >>> block_length(1000, spec, 4, 30_000_000), block_length(1000, spec, 4, 90_000)
        (250, 3)
    """
    return max(min(max_bytes // spec.image_bytes, count // blocks), 1)


def decode_rows(
    paths: Sequence[str], digests: Sequence[str], spec: DecodeSpec
) -> tuple[UInt8[np.ndarray, "file height width 3"], list[str | None]]:
    """Reads and decodes files one after the other.

    Args:
        paths: of the files, or their URIs.
        digests: expected SHA-256 of each file; ``""`` accepts any content.
        spec: shape of each image.

    Returns:
        The images, RGB, 0 to 255, black where a file is unusable; and why a file is unusable, else ``None``.
    """
    keep_freed_memory()
    pixels = np.zeros((len(paths), *spec.image_shape), np.uint8)
    reasons: list[str | None] = [None] * len(paths)
    for row, (path, digest) in enumerate(zip(paths, digests, strict=True)):
        try:
            decode_image(read_checked(path, digest), spec, pixels[row])
        except BadImageError as error:
            reasons[row] = str(error)
    return pixels, reasons


def block_of(
    positions: Int64[np.ndarray, " file"],
    pixels: UInt8[np.ndarray, "file height width 3"],
    reasons: Sequence[str | None],
) -> DecodedBlock:
    """Puts the result for some files together, without the pixels of the unusable ones.

    Args:
        positions: positions of these files among all that are decoded.
        pixels: an image per file, RGB, 0 to 255.
        reasons: why a file is unusable, else ``None``.

    Returns:
        The block.
    """
    ok = np.array([reason is None for reason in reasons])
    return DecodedBlock(positions, pixels if ok.all() else pixels[ok], ok, tuple(reasons))


def read_checked(path: str, digest: str) -> bytes:
    """Reads a file and compares its checksum.

    Args:
        path: of the file, or its URI.
        digest: expected SHA-256, in hexadecimal; ``""`` accepts any content.

    Returns:
        Its content.

    Raises:
        BadImageError: it can't be read, or its SHA-256 isn't the expected one; the message is one of ``TRANSIENT_REASONS``.
    """
    try:
        if is_uri(path):
            data = to_path(path).read_bytes()
        else:
            with io.FileIO(path) as file:
                data = file.readall()
    except OSError as error:
        raise BadImageError(f"{TRANSIENT_REASONS[0]}: {error.strerror or error}") from error
    if digest and hashlib.sha256(data).hexdigest() != digest:
        raise BadImageError(TRANSIENT_REASONS[1])
    return data
