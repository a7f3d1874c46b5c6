"""What bears the name of an image is called what it is."""

import pytest

from raylight.data.decode.signatures import foreign_kind
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
    "macOS's notes on a file": b"\0\x05\x16\x07" + bytes(100),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_bears_an_images_name_is_called_what_it_is(kind: str) -> None:
    assert refused(FOREIGN[kind]).startswith("not a whole image of an accepted format")
    assert f": it is {kind}" in refused(FOREIGN[kind])


def test_pictures_are_not_taken_for_something_else() -> None:
    for kind in ("PNG", "BMP", "GIF", "TIFF", "WEBP", "JPEG2000", "AVIF", "PPM"):
        assert foreign_kind(encoded(picture(), kind)) is None, kind
