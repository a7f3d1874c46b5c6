"""Checks that Pillow lacks: whether a PNG or TIFF file holds all the pixels that its header announces.

Pillow shows missing pixels as black. The data of a PNG may end early although all checksums are right; a TIFF may have too
few strips, and Pillow ignores the strips' checksums. Not here: all other checks (:mod:`raylight.data.decode.image`).
"""

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from raylight.data.decode.jpeg_header import read_jpeg_header
from raylight.errors import BadImageError

if TYPE_CHECKING:
    from PIL.Image import Image

_CHANNELS: Final = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Channels of each colour type of a PNG (PNG specification, 11.2.1)."""

_PASSES: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""First column, first row, column step and row step of the seven passes of an interlaced PNG (8.2)."""

_BITS, _COMPRESSION, _COLOURS, _OFFSETS, _COUNTS = 258, 259, 262, 273, 279
_TILE_WIDTH, _TILE_OFFSETS, _TILE_COUNTS, _JPEG_TABLES = 322, 324, 325, 347
_RAW, _JPEG, _YCBCR = 1, 7, 6
_PLANAR, _SEPARATE = 284, 2
_DEFLATE: Final = (8, 32946)
_CHUNK: Final = 1 << 20
"""Bytes decompressed at a time."""


def check_covered(picture: "Image") -> None:
    """Rejects an image of which the file holds only a part.

    Args:
        picture: opened, not loaded. GIFs pass: their first frame may be smaller than the canvas.

    Raises:
        BadImageError: pixels are missing.
    """
    boxes = [box for _, box, *_ in getattr(picture, "tile", [])]
    if picture.format == "GIF" or not all(boxes):
        return
    covered = sum((right - left) * (bottom - top) for left, top, right, bottom in boxes)
    if boxes and covered < picture.width * picture.height:
        raise BadImageError(
            f"its header announces {picture.width} x {picture.height} pixels, of which the file holds {covered:,}"
        )


def check_png_rows(data: bytes, picture: "Image") -> None:
    """Rejects a PNG whose compressed data lacks rows.

    Args:
        data: content of the file, its checksums verified.
        picture: loaded. Missing rows are zeros, so most files needn't be decompressed a second time.

    Raises:
        BadImageError: rows are missing.
    """
    interlaced = data[28] == 1
    if not interlaced and any(picture.crop((0, picture.height - 1, picture.width, picture.height)).tobytes()):
        return
    width, height = int.from_bytes(data[16:20]), int.from_bytes(data[20:24])
    bits = data[24] * _CHANNELS[data[25]]
    passes = _PASSES if interlaced else ((0, 0, 1, 1),)
    missing = 0
    for left, top, column_step, row_step in passes:
        columns, rows = -(-(width - left) // column_step), -(-(height - top) // row_step)
        if columns > 0 and rows > 0:
            missing += rows * (1 + (columns * bits + 7) // 8)
    stream = zlib.decompressobj()
    for compressed in _png_data(data):
        while missing > 0 and not stream.eof:
            chunk = stream.decompress(compressed, _CHUNK)
            missing -= len(chunk)
            compressed = stream.unconsumed_tail
            if not chunk and not compressed:
                break
    if missing > 0:
        raise BadImageError(f"cut off: its data lacks {missing:,} bytes of {width} x {height} pixels")


def _png_data(data: bytes) -> Iterator[bytes]:
    """The content of the IDAT chunks."""
    position = 8
    while position + 8 <= len(data):
        length = int.from_bytes(data[position : position + 4])
        if data[position + 4 : position + 8] == b"IDAT":
            yield data[position + 8 : position + 8 + length]
        position += 12 + length


def check_tiff_strips(data: bytes, picture: "Image") -> None:
    """Rejects a TIFF whose strips are too short, have a wrong checksum (deflate), or are damaged JPEGs.

    Args:
        data: content of the file.
        picture: opened; only its tags are used.

    Raises:
        BadImageError: a strip is damaged or too short.
    """
    tags: Any = getattr(picture, "tag_v2", {})
    kind = tags.get(_COMPRESSION, _RAW)
    offsets, counts = (_OFFSETS, _COUNTS) if _OFFSETS in tags else (_TILE_OFFSETS, _TILE_COUNTS)
    sizes = _numbers(tags, counts)
    if kind == _RAW and sizes and tags.get(_COLOURS) != _YCBCR:
        needed = picture.height * ((picture.width * sum(_numbers(tags, _BITS)) + 7) // 8)
        if sum(sizes) < needed:
            raise BadImageError(f"its header announces {needed:,} bytes of pixels, its strips have {sum(sizes):,}")
    channels = len(_numbers(tags, _BITS))
    if tags.get(_PLANAR) == _SEPARATE and len(sizes) < channels:
        raise BadImageError(f"its header announces {channels} channels, stored separately, the file holds {len(sizes)}")
    if kind not in (*_DEFLATE, _JPEG):
        return
    for offset, count in zip(_numbers(tags, offsets), sizes, strict=True):
        strip = data[offset : offset + count]
        if kind == _JPEG:
            _check_jpeg_strip(strip, tags.get(_JPEG_TABLES, b""), int(tags.get(_TILE_WIDTH, picture.width)))
        else:
            _check_deflate_strip(strip)


def _numbers(tags: Any, tag: int) -> tuple[int, ...]:
    value = tags.get(tag, ())
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def _check_deflate_strip(strip: bytes) -> None:
    stream, rest = zlib.decompressobj(), strip
    while rest and not stream.eof:
        stream.decompress(rest, _CHUNK)
        rest = stream.unconsumed_tail
    if not stream.eof:
        raise BadImageError("damaged or cut off: a strip ends early")


def _check_jpeg_strip(strip: bytes, tables: bytes, width: int) -> None:
    import simplejpeg

    header = read_jpeg_header(strip)
    if header.width < width:
        raise BadImageError(f"its header announces a width of {width}, a strip has {header.width}")
    jpeg = tables[:-2] + strip[2:] if tables else strip
    try:
        simplejpeg.decode_jpeg(jpeg, colorspace="GRAY" if header.components == 1 else "RGB", strict=True)
    except ValueError as error:
        raise BadImageError(f"a strip is damaged or cut off: {error}") from error
