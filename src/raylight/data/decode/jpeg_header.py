"""Reading the header of a JPEG file: size, kind, metadata.

Reads the segments up to the first scan. Not here: decoding the image and checking it (libjpeg-turbo).
"""

from dataclasses import dataclass
from typing import Final

from raylight.errors import BadImageError

_FRAMES: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_WITHOUT_LENGTH: Final = frozenset({0x01, *range(0xD0, 0xD8)})
_SCAN, _END, _APP0, _APP1 = 0xDA, 0xD9, 0xE0, 0xE1


@dataclass(frozen=True)
class JpegHeader:
    """The segments of a JPEG file up to its first scan.

    Attributes:
        width: stored width in pixels, before orientation.
        height: stored height in pixels, before orientation.
        components: 1 grey, 3 colour, 4 CMYK.
        progressive: whether later scans refine earlier ones.
        multiple_scans: whether libjpeg must keep all coefficients in memory.
        metadata: the APP1 segments, which hold EXIF and XMP.
        unknown_jfif_offset: offset in bytes of a JFIF version that libjpeg would warn about, or ``None``.
    """

    width: int
    height: int
    components: int
    progressive: bool
    multiple_scans: bool
    metadata: tuple[bytes, ...]
    unknown_jfif_offset: int | None


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Reads the segments up to the first scan (ITU-T T.81, annex B).

    Args:
        data: content of a file that starts with the JPEG signature ``FF D8``.

    Returns:
        The header; the image data isn't looked at.

    Raises:
        BadImageError: the segments are cut off or contradictory, or describe no image.
    """
    frame: tuple[int, int, int, int] | None = None
    metadata: list[bytes] = []
    unknown_jfif_offset = None
    position = 2
    while True:
        while data[position : position + 2] == b"\xff\xff":
            position += 1
        if len(data) < position + 4:
            raise BadImageError("the JPEG header is cut off")
        if data[position] != 0xFF:
            raise BadImageError(f"the JPEG header is damaged at byte {position}")
        marker = data[position + 1]
        if marker in _WITHOUT_LENGTH:
            position += 2
            continue
        length = int.from_bytes(data[position + 2 : position + 4])
        start, end = position + 4, position + 2 + length
        if marker == _END or length < 2 or end > len(data):
            raise BadImageError("the JPEG file ends before its image data")
        if marker == _SCAN:
            break
        if marker in _FRAMES and length >= 8:
            height, width = (int.from_bytes(data[start + at : start + at + 2]) for at in (1, 3))
            frame = (marker, width, height, data[start + 5])
        elif marker == _APP0 and data[start : start + 5] == b"JFIF\0" and data[start + 5] not in (1, 2):
            unknown_jfif_offset = start + 5
        elif marker == _APP1:
            metadata.append(data[start:end])
        position = end
    if frame is None:
        raise BadImageError("the JPEG file has no frame header")
    kind, width, height, components = frame
    progressive = kind in _PROGRESSIVE
    return JpegHeader(
        width=width,
        height=height,
        components=components,
        progressive=progressive,
        multiple_scans=progressive or data[start] < components,
        metadata=tuple(metadata),
        unknown_jfif_offset=unknown_jfif_offset,
    )
