"""HEIC pictures against libheif's own pixels, and the way to the extra without it."""

import io

import numpy as np
import pillow_heif
import pytest
from PIL import Image

from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError
from tests.data.decode.pictures import difference, picture, reference

STRETCH, CROP = DecodeSpec(48, "stretch"), DecodeSpec(48, "crop")


def heic(image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    pillow_heif.from_pillow(image).save(stream, quality=-1, **options)
    return stream.getvalue()


@pytest.mark.parametrize("spec", [STRETCH, CROP])
def test_pixels_are_libheifs_own(spec: DecodeSpec) -> None:
    data = heic(picture())
    own = pillow_heif.open_heif(io.BytesIO(data)).to_pillow()
    assert difference(np.asarray(own), np.asarray(picture())) < 2
    assert difference(decode_image(data, spec), reference(own, spec)) < 1


def test_it_is_turned_once() -> None:
    """A phone's picture carries its orientation twice, as a property of the image and in EXIF; libheif applies the first."""
    turned = picture()
    exif = Image.Exif()
    exif[0x0112] = 6
    stream = io.BytesIO()
    pillow_heif.register_heif_opener()
    turned.save(stream, "HEIF", quality=-1, exif=exif.tobytes())
    upright = turned.transpose(Image.Transpose.ROTATE_270)
    assert difference(decode_image(stream.getvalue(), STRETCH), reference(upright, STRETCH)) < 3


def test_what_is_cut_off_is_refused() -> None:
    data = heic(picture(600, 400))
    with pytest.raises(BadImageError):
        decode_image(data[: len(data) // 2], STRETCH)


def test_without_the_extra_the_way_to_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raylight.data.decode.image.READERS", ())
    with pytest.raises(BadImageError, match=r"it is a HEIC picture \(an iPhone's default\); read it with: .*\[heic\]"):
        decode_image(heic(picture()), STRETCH)
