"""What bears the name of an image is called what it is."""

import struct

import pytest

from raylight.data.decode.image import decode_image
from raylight.data.decode.signatures import foreign_kind, tiff_kind
from raylight.data.decode.spec import DecodeSpec
from tests.data.decode.pictures import encoded, picture, refused

FOREIGN = {
    "a video": b"\0\0\0\x18ftypisom\0\0\0\0isomavc1" + bytes(90),
    "a web page": b"\n<!DOCTYPE html>\n<html><body>404 Not Found</body></html>",
    "an XML document": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "an SVG drawing": b"<?xml version='1.0'?><svg xmlns='http://www.w3.org/2000/svg'/>",
    "a JSON document": b'{"message": "rate limit exceeded"}',
    "a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n",
    "a git-annex pointer": b"/annex/objects/SHA256E-s1--00.jpg\n",
    "a PDF document": b"%PDF-1.7\n%\xe2\xe3\xcf\xd3",
    "a ZIP archive": b"PK\x03\x04" + bytes(100),
    "macOS's metadata of a file": b"\0\x05\x16\x07" + bytes(100),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_bears_an_images_name_is_called_what_it_is(kind: str) -> None:
    assert refused(FOREIGN[kind]).startswith("not a whole image of an accepted format")
    assert f": it is {kind}" in refused(FOREIGN[kind])


def tiff(
    photometric: int,
    bits: tuple[int, ...],
    extra: tuple[int, ...] = (),
    numbers: int = 1,
    compression: int = 1,
    planes: int = 1,
) -> bytes:
    """4 x 4 pixels in one strip, by the tags of TIFF 6.0 (Adobe 1992)."""
    size, pixels = 4, bytes(range(2 * sum(bits)))
    tags = {256: [size], 257: [size], 258: bits, 259: [compression], 262: [photometric], 273: [0], 277: [len(bits)]}
    tags |= {278: [size], 279: [len(pixels)], 284: [planes], 339: [numbers] * len(bits)} | (
        {338: extra} if extra else {}
    )
    place = 10 + 12 * len(tags) + 4
    entries, values = b"", b""
    tags[273] = [place + sum(2 * len(value) for value in tags.values() if len(value) > 2)]
    for tag, value in sorted(tags.items()):
        packed = struct.pack(f"<{len(value)}H", *value)
        entries += struct.pack("<HHI", tag, 3, len(value))
        entries += packed.ljust(4, b"\0") if len(packed) <= 4 else struct.pack("<I", place + len(values))
        values += packed if len(packed) > 4 else b""
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + values + pixels


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (tiff(5, (8,) * 5, (2,)), "CMYK with transparency, 5 x 8-bit integers; convert it to RGB or grey"),
        (tiff(5, (16,) * 5, (1,)), "CMYK with transparency, 5 x 16-bit integers"),
        (tiff(1, (8,) * 5, (0,) * 4), "grey with further channels, 5 x 8-bit integers"),
        (tiff(1, (16, 16), (2,)), "grey with transparency, 2 x 16-bit integers"),
        (tiff(2, (32,) * 3, numbers=3), "RGB, 3 x 32-bit floating-point numbers"),
        (tiff(8, (16,) * 3), "CIELAB, 3 x 16-bit integers"),
        (tiff(3, (16,)), "a palette, 1 x 16-bit integers"),
        (tiff(32803, (16,)), "a camera's colour filters (raw), 1 x 16-bit integers"),
        (tiff(2, (8,) * 3, compression=34887), "compressed by an unknown method (34887)"),
        (tiff(1, (8,), numbers=2), "grey, 1 x 8-bit signed integers, whose range isn't known"),
        (tiff(1, (16,), numbers=2), "grey, 1 x 16-bit signed integers, whose range isn't known"),
        (tiff(2, (8,) * 3, planes=2), "announces 3 channels, stored separately, the file holds 1"),
    ],
)
def test_a_tiff_that_is_not_read_is_described(data: bytes, reason: str) -> None:
    assert reason in refused(data)


def test_a_tiff_of_the_same_make_that_is_read() -> None:
    assert tiff_kind(tiff(2, (8,) * 3)) == "RGB, 3 x 8-bit integers"
    assert decode_image(tiff(2, (8,) * 3), DecodeSpec(4, "stretch")).ravel().tolist() == list(range(48))
    cmyk = decode_image(tiff(5, (8,) * 4), DecodeSpec(4, "stretch"))
    assert cmyk[0, 0].tolist() == [252, 251, 250]  # (255 - C) (255 - K) / 255 of the inks 0, 1, 2 and 3
    assert tiff_kind(b"II*\0" + bytes(4)) is None  # no directory
    assert tiff_kind(encoded(picture(), "PNG")) is None


def test_pictures_are_not_taken_for_something_else() -> None:
    for kind in ("PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG2000", "AVIF", "PPM"):
        assert foreign_kind(encoded(picture(), kind)) is None, kind
