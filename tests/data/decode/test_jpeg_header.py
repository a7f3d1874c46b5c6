"""What a JPEG's header says."""

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from raylight.data.decode.image import decode_image
from raylight.data.decode.jpeg_header import read_jpeg_header
from raylight.errors import BadImageError
from tests.data.decode.pictures import CROP, encoded, picture, refused


def test_odd_jfif_version_is_no_reason_to_refuse() -> None:
    plain = encoded(picture(), "JPEG")
    at = plain.index(b"JFIF\0") + 5
    odd = plain[:at] + b"\0" + plain[at + 1 :]
    with pytest.raises(ValueError, match="JFIF"):
        simplejpeg.decode_jpeg(odd)
    assert np.array_equal(decode_image(odd, CROP), decode_image(plain, CROP))
    assert "cut off" in refused(odd[: len(odd) // 2])


@pytest.mark.parametrize(("mode", "components"), [("L", 1), ("RGB", 3), ("CMYK", 4)])
@pytest.mark.parametrize("progressive", [False, True])
def test_the_header_is_what_pillow_wrote(mode: str, components: int, progressive: bool) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(picture(150, 100).convert(mode), "JPEG", progressive=progressive, exif=exif)
    header = read_jpeg_header(data)
    assert (header.width, header.height, header.components) == (150, 100, components)
    assert header.progressive == header.multiple_scans == progressive
    assert [segment[:6] for segment in header.metadata] == [b"Exif\0\0"]
    assert header.unknown_jfif_offset is None


def test_a_header_that_is_cut_off_anywhere_is_refused() -> None:
    data = encoded(picture(), "JPEG")
    scan = data.index(b"\xff\xda")
    for length in range(2, scan + 4):
        with pytest.raises(BadImageError):
            read_jpeg_header(data[:length])
    assert read_jpeg_header(data[: scan + 20]).width == 150
