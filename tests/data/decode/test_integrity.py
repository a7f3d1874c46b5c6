"""A header that announces more than the file holds: Pillow shows the rest as black, Raylight refuses it."""

import io
import struct
import zlib

import numpy as np
import pytest
from experiments.reliability.mutations import claiming, drawn_files
from PIL import Image

from raylight.data.decode.image import FORMATS, decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError

Image.init()

FILES = drawn_files()
SPEC = DecodeSpec(64, "stretch")
LARGER = [(150, 160), (300, 100), (640, 640), (150, 60_000)]
LYING = {
    (name, size): claiming(FILES[name], *size)
    for name in FILES
    for size in LARGER
    if name.startswith(("jpeg", "png", "bmp", "tiff", "ppm"))
    # Fax code has neither lengths nor checksums: a wider row can't be told.
    and not (name in ("tiff, fax", "tiff, pages") and size[0] > 150)
}
"""Files whose header announces more than they hold; but for plain text, whose size is its text."""


@pytest.mark.parametrize(("name", "size"), [one for one, lying in LYING.items() if lying != FILES[one[0]]])
def test_a_size_that_the_file_does_not_hold_is_refused(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(BadImageError):
        decode_image(LYING[name, size], SPEC)


def rows_of_png(picture: Image.Image, rows: int, interlaced: bool = False) -> bytes:
    """A PNG with right checksums whose data ends after some rows (or passes)."""
    width, height = picture.size
    pixels = np.asarray(picture)
    if interlaced:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
        lines = [row for left, top, right, down in passes[:rows] for row in pixels[top::down, left::right] if len(row)]
    else:
        lines = list(pixels[:rows])
    raw = b"".join(b"\0" + line.tobytes() for line in lines)

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, int(interlaced))
    packed = zlib.compress(raw)
    data = chunk(b"IDAT", packed[:100]) + chunk(b"IDAT", packed[100:])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(90, 60), (33, 31)])
@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("end", ["bright", "black"])
def test_a_png_without_its_last_rows_is_refused_whatever_colour_they_have(
    end: str, interlaced: bool, size: tuple[int, int]
) -> None:
    width, height = size
    pixels = np.random.default_rng(1).integers(1, 255, (height, width, 3), np.uint8)
    if end == "black":
        pixels[height // 2 :] = 0
    picture, parts = Image.fromarray(pixels), 7 if interlaced else height
    whole = decode_image(rows_of_png(picture, parts, interlaced), SPEC)
    with Image.open(io.BytesIO(rows_of_png(picture, parts, interlaced))) as opened:
        assert np.array_equal(np.asarray(opened), pixels)
    assert whole.any()
    with pytest.raises(BadImageError, match=r"cut off: its data lacks [\d,]+ bytes"):
        decode_image(rows_of_png(picture, parts - 1, interlaced), SPEC)


def test_damage_within_the_strips_of_a_tiff_is_noticed() -> None:
    for name in ("tiff, deflate", "tiff, jpeg"):
        data = bytearray(FILES[name])
        with Image.open(io.BytesIO(FILES[name])) as picture:
            offset, count = picture.tag_v2[273][0], picture.tag_v2[279][0]
        data[offset + count // 2 : offset + count // 2 + 40] = bytes(40)
        with pytest.raises(BadImageError, match=r"damaged|strip"):
            decode_image(bytes(data), SPEC)


@pytest.mark.parametrize("kind", sorted(Image.SAVE))
def test_whatever_pillow_writes_is_decoded_right_or_refused_with_a_reason(kind: str) -> None:
    """One colour in every format and pixel format that Pillow writes; 16 bits have tests of their own."""
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", *(() if kind == "TIFF" else ("YCbCr",))):
        picture = Image.new("RGB", (64, 64), "white" if mode == "1" else (200, 200, 200)).convert(mode)
        stream = io.BytesIO()
        try:
            picture.save(stream, kind)
        except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, AttributeError):
            continue  # a pixel format that this format doesn't have
        if kind in (*FORMATS, "JPEG", "MPO"):
            decoded = decode_image(stream.getvalue(), SPEC)
            assert abs(float(decoded.mean()) - (255 if mode == "1" else 200)) < 5, mode
        else:
            with pytest.raises(BadImageError, match="not a whole image of an accepted format"):
                decode_image(stream.getvalue(), SPEC)
