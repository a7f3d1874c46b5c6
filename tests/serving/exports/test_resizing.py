"""Resizing inside the network: as the run's own resizer, and within one level of Pillow where nothing is clipped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from raylight.data.decode.image import decode_image
from raylight.data.decode.jpeg import RESIZER, resize
from raylight.data.decode.spec import DecodeSpec
from raylight.serving.exports.resizing import Resize, axis_weights, fixed_point

SPECS = [
    DecodeSpec(48, "crop", 51),
    DecodeSpec(48, "crop", None, "bicubic"),
    DecodeSpec((40, 64), "crop", 43, "bicubic"),
    DecodeSpec(32, "stretch"),
    DecodeSpec((40, 64), "stretch", 44, "bicubic"),
    DecodeSpec(48, "pad", None, "bilinear", (124, 116, 104)),
    DecodeSpec((64, 40), "pad", None, "bicubic", (9, 8, 7)),
]
SIZES = [(301, 400), (403, 97), (20, 31), (48, 48), (51, 51), (40, 64), (5, 3), (1, 7), (20, 300)]


def resized(image: np.ndarray, spec: DecodeSpec, resizer: str = "cykooz") -> np.ndarray:
    with torch.inference_mode():
        (found,) = Resize(spec, resizer)(torch.from_numpy(np.array(image)[None])).numpy()
    assert (found == np.floor(found)).all()
    return found.transpose(1, 2, 0).astype(int)


def by_pillow(image: np.ndarray, spec: DecodeSpec) -> np.ndarray:
    """Resizes the whole picture, then crops as torchvision's CenterCrop, or pads."""
    picture = Image.fromarray(image)
    kernel = Image.Resampling[spec.interpolation.upper()]
    if spec.resize == "pad":
        small = ImageOps.contain(picture, (spec.width, spec.height), kernel)
        framed = Image.new("RGB", (spec.width, spec.height), spec.fill)
        framed.paste(small, ((spec.width - small.width) // 2, (spec.height - small.height) // 2))
        return np.asarray(framed, dtype=int)
    rows, columns = spec.frame
    if spec.resize == "crop":
        scale = max(rows / picture.height, columns / picture.width)
        exact = scale == rows / picture.height
        rows, columns = (rows, int(picture.width * rows / picture.height)) if exact else (rows, columns)
        rows = rows if exact else int(picture.height * columns / picture.width)
    small = np.asarray(picture.resize((columns, rows), kernel), dtype=int)
    top, left = round((rows - spec.height) / 2), round((columns - spec.width) / 2)
    return small[top : top + spec.height, left : left + spec.width]


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.resize}-{spec.interpolation}-{spec.size}")
def test_noise_of_any_size_is_resized_within_one_level_of_pillow(spec: DecodeSpec) -> None:
    rng = np.random.default_rng(0)
    for size in SIZES:
        # The cubic overshoots, and clipping after rows, as the run does, isn't clipping after columns, as Pillow does.
        low, high = (0, 256) if spec.interpolation == "bilinear" else (64, 192)
        image = rng.integers(low, high, (*size, 3), dtype=np.uint8)
        apart = np.abs(resized(image, spec) - by_pillow(image, spec))
        assert apart.max() <= 1, size


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.resize}-{spec.interpolation}-{spec.size}")
def test_pillow_is_reproduced_to_the_level(spec: DecodeSpec) -> None:
    rng = np.random.default_rng(0)
    for size in SIZES:
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        apart = np.abs(resized(image, spec, "pillow") - by_pillow(image, spec))
        assert (apart.max() <= 1, (apart > 0).mean() < 0.02) == (True, True), (
            size
        )  # ties, which float32 breaks otherwise


@pytest.mark.skipif(RESIZER != "cykooz", reason="on this platform, the run resizes JPEG files with Pillow")
@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.resize}-{spec.interpolation}-{spec.size}")
def test_noise_is_resized_as_by_the_run_to_the_level(spec: DecodeSpec, tmp_path: Path) -> None:
    """A grey JPEG has no colours that the run's decoder might interpolate differently; it isn't large enough to be scaled."""
    rng = np.random.default_rng(1)
    for height, width in [(70, 61), (33, 79), (48, 48), (1, 70)]:
        Image.fromarray(rng.integers(0, 256, (height, width), dtype=np.uint8)).save(tmp_path / "noise.jpg")
        data = (tmp_path / "noise.jpg").read_bytes()
        image = np.asarray(Image.open(tmp_path / "noise.jpg").convert("RGB"))
        different = resized(image, spec) != decode_image(data, spec)
        assert different.mean() < 1e-3, (height, width)


def test_an_image_of_the_resized_size_is_only_cropped() -> None:
    image = np.random.default_rng(2).integers(0, 256, (56, 56, 3), dtype=np.uint8)
    assert (resized(image, DecodeSpec(48, "crop", 56, "bicubic")) == image[4:52, 4:52]).all()
    assert (resized(image, DecodeSpec(56, "stretch")) == image).all()


def test_weights_are_those_of_the_triangle_by_hand() -> None:
    """Halving four pixels: centres 1 and 3, triangle of half width 2, sampled 0.5 and 1.5 away: 3/4 and 1/4."""
    weights = axis_weights(4, torch.tensor(2), torch.arange(2), "bilinear")
    first = torch.tensor([0.75, 0.75, 0.25, 0.0], dtype=torch.float64) / 1.75
    torch.testing.assert_close(weights, torch.stack([first, first.flip(0)]))


def test_the_largest_weight_has_fifteen_bits() -> None:
    """0.3 * 2^16 = 19660.8 is less than 2^15, 0.3 * 2^17 isn't; 2^15 itself is too large, and 2^21 is the finest."""
    scales = [float(fixed_point(torch.tensor(weight, dtype=torch.float64))) for weight in (0.3, 1.0, 0.5, 1e-9)]
    assert scales == [2.0**16, 2.0**14, 2.0**15, 2.0**21]


@pytest.mark.real_data
def test_real_photos_and_films_are_within_one_level_of_pillow(real_data: Path) -> None:
    photos = sorted((real_data / "dogs-vs-cats/train").glob("*.jpg"))[::50][:40]
    films = sorted((real_data / "xray_dataset_covid19/test").rglob("*.*"))[::2][:15]
    assert (len(photos), len(films)) == (40, 15)
    bilinear, bicubic = DecodeSpec(224, "crop", 232), DecodeSpec(224, "crop", 256, "bicubic")
    for number, path in enumerate([*photos, *films]):
        image = np.asarray(Image.open(path).convert("RGB"))
        assert np.abs(resized(image, bilinear) - by_pillow(image, bilinear)).max() <= 1, path
        if number % 4:
            continue
        found = resized(image, bicubic)
        by_run = resize(image, bicubic.box(image.shape[1], image.shape[0]), (224, 224), bicubic)
        assert np.abs(found - by_run).max() <= 1, path
        assert np.abs(resized(image, bicubic, "pillow") - by_pillow(image, bicubic)).max() <= 1, path
        # Clipped where the cubic overshoots, after the other axis first.
        assert (np.abs(found - by_pillow(image, bicubic)) > 1).mean() < 2e-3, path
