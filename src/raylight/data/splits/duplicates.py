"""Duplicates: the same file, or the same picture rescaled, re-encoded, brightened or converted to grey.

Compares the fine detail of the index's 32 x 32 thumbnails. Correlating the pixels themselves isn't enough: chest X-rays of
different children correlate at 0.97. After a Laplacian filter, only detail specific to a picture remains.

Correlations at 32 x 32, measured on 188 X-rays, 2,002 photos and ten demo sets of 600 drawings; the threshold is in between:

    duplicates found and confirmed by eye (3 X-ray pairs, 1 photo pair)        0.87 to 0.99
    re-encoded at quality 30, half size, 20 % brighter, converted to grey      0.92 to 1.00
    most similar pair of different pictures: X-rays, photos, drawings          0.58, 0.35, 0.68

Not found: crops of more than about 1 % per side, mirrored and rotated copies. Pictures without detail (blank pages)
are compared by file content alone. Not here: what to do about duplicates (``split``, the audit).
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from raylight.data.index import GREY, Index

CANDIDATE_CORRELATION = 0.90
"""Minimum correlation at 16 x 16; among 25,000 X-rays, about one pair in a million exceeds it."""

DUPLICATE_CORRELATION = 0.78
"""Minimum correlation at 32 x 32; seven standard deviations above X-rays of different people."""

LEAST_DETAIL = 2.0
"""Grey levels (root mean square of the Laplacian at 16 x 16) below which a picture counts as blank."""

_BLOCK = 1024
"""Files per block: the products of two blocks fit into a processor's cache."""

_COORDINATES = 64
"""Length of the shortened vectors that rule out most pairs; a third of the full length."""

_SAMPLE = 4096
"""About how many files determine the principal axes; more don't improve them."""

_ROUNDING = 1e-4
"""Upper limit of the rounding error of a bound."""

_MAX_CACHED = 4
_cached: dict[bytes, Int64[np.ndarray, " file"]] = {}
"""Latest results of ``duplicate_groups``: the split, the audit and the leakage check of a run need the same ones."""


@dataclass(frozen=True)
class DuplicatePair:
    """Two files that show the same picture.

    Attributes:
        first: position of the earlier file.
        second: position of the later one.
        correlation: of their fine detail, ``DUPLICATE_CORRELATION`` to 1.
    """

    first: int
    second: int
    correlation: float


def near_duplicates(
    thumbnails: UInt8[np.ndarray, "file 32 32 3"],
    candidate_correlation: float = CANDIDATE_CORRELATION,
    duplicate_correlation: float = DUPLICATE_CORRELATION,
) -> tuple[DuplicatePair, ...]:
    """Finds pairs of thumbnails that show the same picture.

    Of identical thumbnails, each is paired with the first only. Memory use beyond the thumbnails stays below 2 kB per file
    plus 100 MB.

    Args:
        thumbnails: RGB, 0 to 255; blank ones, such as those of bad files, match nothing.
        candidate_correlation: minimum correlation of detail at 16 x 16 for a closer comparison.
        duplicate_correlation: minimum correlation of detail at 32 x 32.

    Returns:
        Pairs in order of their positions.
    """
    coarse = _coarse_detail(thumbnails)
    blank = np.asarray(~coarse.any(axis=1))
    first_alike = _first_alike(thumbnails, blank)
    pairs = [
        DuplicatePair(int(first), second, 1.0) for second, first in enumerate(first_alike) if first not in (-1, second)
    ]
    distinct = np.flatnonzero(first_alike == np.arange(len(thumbnails)))
    for firsts, seconds in _correlated(coarse[distinct], candidate_correlation):
        pairs += _confirmed(thumbnails, distinct[firsts], distinct[seconds], duplicate_correlation)
    return tuple(sorted(pairs, key=lambda pair: (pair.first, pair.second)))


def duplicate_groups(index: Index) -> Int64[np.ndarray, " file"]:
    """Finds files with the same content or of the same picture.

    The latest results are cached for the life of the process.

    Args:
        index: with thumbnails.

    Returns:
        Group number of each file, from 0.

    Raises:
        ValueError: the index has no thumbnails, because it was read from a run folder.
    """
    if len(index.thumbnails) != len(index):
        raise ValueError(f"{len(index)} files with {len(index.thumbnails)} thumbnails: build the index from its files")
    hashes = index.column("sha256")
    contents = hashlib.blake2b("\n".join(map(str, hashes)).encode(), digest_size=16)
    contents.update(np.ascontiguousarray(index.thumbnails).data)
    key = contents.digest()
    if key in _cached:
        return _cached[key].copy()
    first_of: dict[str, int] = {}
    edges = [(first_of.setdefault(sha, position), position) for position, sha in enumerate(hashes) if sha is not None]
    edges += [(pair.first, pair.second) for pair in near_duplicates(index.thumbnails)]
    groups = connected_groups(len(index), edges)
    while len(_cached) >= _MAX_CACHED:
        _cached.pop(next(iter(_cached)))
    _cached[key] = groups
    return groups.copy()


def picture_groups(index: Index, duplicates: bool) -> Int64[np.ndarray, " file"]:
    """Finds files with the same content and, if wanted, of the same picture.

    Args:
        index: of usable files; with thumbnails, if ``duplicates``.
        duplicates: whether near-duplicates count, besides files with the same content.

    Returns:
        Group number of each file, from 0.
    """
    if duplicates:
        return duplicate_groups(index)
    return np.unique(index.column("sha256").astype(str), return_inverse=True)[1]


def connected_groups(count: int, edges: Sequence[tuple[int, int]]) -> Int64[np.ndarray, " file"]:
    """Groups files that are connected, directly or through others.

    Args:
        count: number of files.
        edges: pairs of positions of files that belong together.

    Returns:
        Group number of each file, from 0.

    Example:
        >>> connected_groups(5, [(0, 2), (2, 4)])
        array([0, 1, 0, 2, 0])
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array(edges, dtype=np.int64).reshape(-1, 2)
    graph = coo_array((np.ones(len(ends), dtype=bool), (ends[:, 0], ends[:, 1])), shape=(count, count))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _coarse_detail(thumbnails: UInt8[np.ndarray, "file 32 32 3"]) -> Float[np.ndarray, "file feature"]:
    """Unit vectors of detail at 16 x 16; zeros for blank pictures."""
    detail = np.zeros((len(thumbnails), 14 * 14), dtype=np.float32)
    for start in range(0, len(thumbnails), _BLOCK):
        part = _grey(thumbnails[start : start + _BLOCK])
        half = part.reshape(len(part), 16, 2, 16, 2).mean(axis=(2, 4))
        detail[start : start + _BLOCK] = _unit(_laplacian(half), LEAST_DETAIL)
    return detail


def _correlated(
    detail: Float[np.ndarray, "file feature"], least: float
) -> Iterator[tuple[Int64[np.ndarray, " pair"], Int64[np.ndarray, " pair"]]]:
    """Yields all pairs of unit vectors whose dot product is at least ``least``, earlier position first, block by block."""
    bounding = _bounding(detail)
    for start in range(0, len(detail), _BLOCK):
        for other in range(start, len(detail), _BLOCK):
            highest = bounding[start : start + _BLOCK] @ bounding[other : other + _BLOCK].T
            if highest.max() < least - _ROUNDING:
                continue
            rows, columns = np.divmod(np.flatnonzero(highest >= least - _ROUNDING), highest.shape[1])
            ahead = rows + start < columns + other
            firsts, seconds = rows[ahead] + start, columns[ahead] + other
            alike = _products(detail, firsts, seconds) >= least
            yield firsts[alike], seconds[alike]


def _bounding(detail: Float[np.ndarray, "file feature"]) -> Float[np.ndarray, "file coordinate"]:
    """Returns shorter vectors, whose dot products are upper bounds of the dot products of the unit vectors.

    The vectors are projected onto their principal axes. The other axes add to a dot product at most the product of the lengths
    in them (Cauchy-Schwarz), so this length is the last coordinate.
    """
    sample = detail[:: max(len(detail) // _SAMPLE, 1)]
    _, axes = np.linalg.eigh(sample.T @ sample)  # ascending eigenvalues
    leading = detail @ axes[:, :-_COORDINATES:-1]
    rest = np.sqrt(np.maximum(1 - np.square(leading).sum(axis=1, keepdims=True), 0))
    return np.asarray(np.concatenate([leading, rest], axis=1), dtype=np.float32)


def _products(
    detail: Float[np.ndarray, "file feature"], firsts: Int64[np.ndarray, " pair"], seconds: Int64[np.ndarray, " pair"]
) -> Float[np.ndarray, " pair"]:
    """Dot products of pairs of vectors."""
    products = np.empty(len(firsts), dtype=np.float32)
    for start in range(0, len(firsts), _BLOCK):
        part = slice(start, start + _BLOCK)
        products[part] = (detail[firsts[part]] * detail[seconds[part]]).sum(axis=1)
    return products


def _confirmed(
    thumbnails: UInt8[np.ndarray, "file 32 32 3"],
    firsts: Int64[np.ndarray, " pair"],
    seconds: Int64[np.ndarray, " pair"],
    least: float,
) -> list[DuplicatePair]:
    pairs: list[DuplicatePair] = []
    for start in range(0, len(firsts), _BLOCK):
        part = slice(start, start + _BLOCK)
        one, other = (_unit(_laplacian(_grey(thumbnails[ends[part]])), 0.0) for ends in (firsts, seconds))
        correlations = np.minimum((one * other).sum(axis=1), 1.0)
        pairs += [
            DuplicatePair(int(first), int(second), float(correlation))
            for first, second, correlation in zip(firsts[part], seconds[part], correlations, strict=True)
            if correlation >= least
        ]
    return pairs


def _first_alike(
    thumbnails: UInt8[np.ndarray, "file 32 32 3"], blank: Bool[np.ndarray, " file"]
) -> Int64[np.ndarray, " file"]:
    """The position of the first identical thumbnail; -1 for blank ones."""
    seen: dict[bytes, int] = {}
    first = np.full(len(thumbnails), -1)
    for position in np.flatnonzero(~blank):
        digest = hashlib.blake2b(thumbnails[position].tobytes(), digest_size=16).digest()
        first[position] = seen.setdefault(digest, int(position))
    return first


def _grey(thumbnails: UInt8[np.ndarray, "file 32 32 3"]) -> Float[np.ndarray, "file 32 32"]:
    return np.asarray(thumbnails.astype(np.float32) @ GREY)


def _laplacian(grey: Float[np.ndarray, "file height width"]) -> Float[np.ndarray, "file feature"]:
    """Four times each inner pixel minus its four neighbours."""
    centre = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return np.asarray((4 * centre - around).reshape(len(grey), -1))


def _unit(vectors: Float[np.ndarray, "file feature"], least: float) -> Float[np.ndarray, "file feature"]:
    """Centred and scaled to length 1; zeros where the root mean square is below ``least``."""
    vectors = vectors - vectors.mean(axis=1, keepdims=True)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    full = lengths > max(least * np.sqrt(vectors.shape[1]), 1e-6)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=full))
