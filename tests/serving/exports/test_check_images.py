"""Test images at their full size, or noise; and resizing as a run does it."""

import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.data.decode.image import decode_image
from raylight.data.decode.jpeg import RESIZER
from raylight.data.decode.spec import DecodeSpec
from raylight.errors import BadImageError
from raylight.serving.exports import check_images as module
from raylight.serving.exports.check_images import check_images, original_image, resized_in_one_step
from raylight.serving.predictor import Predictor
from tests.data.decode.test_dicom import film
from tests.forked import ROOT
from tests.trained_run import move_images


def encoded(image: np.ndarray, kind: str, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = io.BytesIO()
    Image.fromarray(image).save(content, kind, exif=exif)
    return content.getvalue()


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def test_the_original_is_upright_and_whole() -> None:
    image = noise(31, 50, 3)
    assert (original_image(encoded(image, "PNG")) == image).all()
    assert (original_image(encoded(image, "PNG", 6)) == np.rot90(image, -1)).all()
    assert original_image(encoded(noise(310, 500), "JPEG", 8)).shape == (500, 310, 3)
    with pytest.raises(BadImageError, match="not a whole image"):
        original_image(b"no picture")


def test_a_dicom_file_has_an_original_too() -> None:
    """Its whole range of values is shown from 0 to 255, so that these stay as they are."""
    values = np.arange(256, dtype=np.uint8).reshape(8, 32)
    assert (original_image(film(values)) == values[..., None]).all()


def test_the_guides_program_decodes_as_a_run_does(tmp_path: Path) -> None:
    (program,) = re.findall(
        r"^(import json.*?)^model =", (ROOT / "docs/exporting.md").read_text(), re.DOTALL | re.MULTILINE
    )
    exec(program, given := {})
    grey, alpha = noise(31, 50), np.tile(np.linspace(0, 255, 50).astype(np.uint8), (31, 1))
    twelve_bits = 100 + np.multiply(grey, 15, dtype=np.uint16)
    palette = Image.fromarray(grey).convert("P")
    palette.info["transparency"] = 7
    for name, picture in {
        "transparent": Image.fromarray(np.dstack([noise(31, 50, 3), alpha])),
        "grey, transparent": Image.fromarray(np.dstack([grey, alpha])),
        "palette, a colour of it transparent": palette,
        "16 bits": Image.fromarray(twelve_bits),
        "opaque": Image.fromarray(noise(31, 50, 3)),
        "one bit": Image.fromarray(grey > 99),
    }.items():
        file = tmp_path / "picture.png"
        exif = Image.Exif()
        exif[0x0112] = 6
        picture.save(file, exif=exif)
        shown, wanted = given["decoded"](file), original_image(file.read_bytes())
        assert np.abs(shown.astype(int) - wanted).max() <= (1 if "transparent" in name else 0), name


@pytest.mark.parametrize("mode", ["crop", "pad", "stretch"])
@pytest.mark.parametrize(("kind", "resizer"), [("PNG", "pillow"), ("JPEG", RESIZER)])
def test_resizing_the_original_gives_what_the_run_decodes(mode: str, kind: str, resizer: str) -> None:
    spec = DecodeSpec((40, 48), mode, None, "bicubic", (1, 2, 3))
    data = encoded(noise(61, 73), kind)
    assert (resized_in_one_step(original_image(data), spec, resizer) == decode_image(data, spec)).all()


def test_originals_belong_to_their_prepared_images(run: Path) -> None:
    predictor = Predictor.open(run, precision="fp32")
    found = check_images(predictor)
    assert (found.real, len(found.prepared), len(found.originals)) == (True, 24, 8)
    for position, original in found.originals:
        apart = resized_in_one_step(original, predictor.preprocessing.decode_spec, "pillow").astype(int)
        assert np.abs(apart - found.prepared[position]).mean() < 8  # of other images, 25


def test_without_images_there_is_noise_of_several_sizes(copied_run: Path, tmp_path: Path) -> None:
    move_images(copied_run, tmp_path / "gone")
    found = check_images(Predictor.open(copied_run, precision="fp32"))
    assert (found.real, found.prepared.shape) == (False, (32, 32, 32, 3))
    assert len({original.shape for _, original in found.originals}) == 4
    assert found.words(4) == "4 random images, since its test images are gone"


def test_without_a_file_that_can_be_decoded_whole_there_is_noise(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a scaled-down decoding of such JPEG files fits into the memory that a file may take."""

    def too_large(data: bytes) -> np.ndarray:
        raise BadImageError("more than the maximum")

    monkeypatch.setattr(module, "original_image", too_large)
    found = check_images(Predictor.open(run, precision="fp32"))
    assert (found.real, len(found.originals)) == (False, 4)


def test_an_untrained_run_has_no_index(untrained: Callable[..., Path]) -> None:
    assert not check_images(Predictor.open(untrained(("a", "b")), precision="fp32")).real
