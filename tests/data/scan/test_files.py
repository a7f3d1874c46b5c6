"""What one reading of a file gives: facts, thumbnail and pixels, each as if it were wanted alone."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from raylight.data.decode import spec as shapes
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.scan.files import THUMBNAIL, scan_file
from tests.data.decode.pictures import TRUNCATED, encoded, picture, refused

SPEC = DecodeSpec(224, "stretch")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Number of bytes of each JPEG that is decoded."""
    seen: list[int] = []
    decode = simplejpeg.decode_jpeg
    monkeypatch.setattr(
        simplejpeg, "decode_jpeg", lambda data, **more: (seen.append(len(data)), decode(data, **more))[1]
    )
    return seen


@pytest.mark.parametrize("size", [(150, 100), (500, 374), (1800, 1900)])
def test_thumbnail_and_pixels_come_from_one_decoding_and_are_those_of_two(
    size: tuple[int, int], tmp_path: Path, decoded: list[int]
) -> None:
    data = encoded(picture(*size), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    file = scan_file(tmp_path, "a.jpg", b"secret", SPEC)
    assert decoded == [len(data)]
    assert np.array_equal(file.thumbnail, decode_image(data, THUMBNAIL))
    assert np.array_equal(file.pixels, decode_image(data, SPEC))


@pytest.mark.parametrize(("side", "size"), [(500, 64), (240, 256)])
def test_a_size_at_another_scale_is_decoded_for_itself(
    side: int, size: int, tmp_path: Path, decoded: list[int]
) -> None:
    """Reduced further, or as large but with chroma interpolated."""
    noise = np.random.default_rng(0).integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    data = encoded(Image.fromarray(noise).resize((side, side)), "JPEG")
    (tmp_path / "a.jpg").write_bytes(data)
    spec = DecodeSpec(size, "stretch")
    file = scan_file(tmp_path, "a.jpg", b"secret", spec)
    assert decoded == [len(data)] * 2
    assert np.array_equal(file.thumbnail, decode_image(data, THUMBNAIL))
    assert np.array_equal(file.pixels, decode_image(data, spec))


def test_a_thumbnail_is_the_antialiased_image_that_pillow_computes(tmp_path: Path) -> None:
    """By another library, to which 2 of 255 are rounding."""
    picture(400, 300).save(tmp_path / "a.jpg", quality=95, subsampling=0)
    file = scan_file(tmp_path, "a.jpg", b"secret")
    expected = np.asarray(Image.open(tmp_path / "a.jpg").resize((32, 32), Image.Resampling.BILINEAR), int)
    assert np.abs(file.thumbnail - expected).max() <= 2
    assert file.pixels is None


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_facts_are_what_pillow_says(mode: str, kind: str, tmp_path: Path) -> None:
    data = encoded(picture(150, 100).convert(mode), kind)
    (tmp_path / "a").write_bytes(data)
    facts = scan_file(tmp_path, "a", b"secret").facts
    with Image.open(io.BytesIO(data)) as shown:
        assert (facts.width, facts.height, facts.mode, facts.format) == (*shown.size, shown.mode, shown.format)
    assert (facts.bytes, facts.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert (facts.status, facts.reason, facts.note) == ("ok", None, None)


@pytest.mark.parametrize("name", sorted(TRUNCATED))
def test_a_damaged_file_has_a_reason_and_no_pixels(name: str, tmp_path: Path) -> None:
    data = TRUNCATED[name][: len(TRUNCATED[name]) * 2 // 3]
    (tmp_path / "a").write_bytes(data)
    file = scan_file(tmp_path, "a", b"secret", SPEC)
    assert (file.facts.status, file.thumbnail, file.pixels, file.refused) == ("bad", None, None, None)
    assert file.facts.reason == refused(data, SPEC)
    assert file.facts.sha256 == hashlib.sha256(data).hexdigest()


def test_a_good_file_that_is_too_large_for_a_size_is_refused_at_it_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thumbnail is decoded at an eighth, an image of 900 pixels at half: 16 times the memory."""
    (tmp_path / "a.jpg").write_bytes(encoded(picture(1800, 1900), "JPEG"))
    monkeypatch.setattr(shapes, "MAX_BYTES", 1800 * 1900)
    file = scan_file(tmp_path, "a.jpg", b"secret", DecodeSpec(900, "stretch"))
    assert (file.facts.status, file.pixels) == ("ok", None)
    assert file.thumbnail is not None
    assert file.refused == "1800 x 1900 pixels: more than the maximum of 1,520,000 for its kind"
