"""Republished pictures are found; different ones, however alike, are not."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance
from scipy.ndimage import laplace

from raylight.config.schema import DataConfig
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index, build_index
from raylight.data.sources.demo import draw_face
from raylight.data.sources.source import find_images
from raylight.data.splits import duplicates
from raylight.data.splits.duplicates import DuplicatePair, duplicate_groups, near_duplicates
from tests.data.splits.test_split import make_index


def thumbnail(picture: Image.Image, kind: str = "PNG", **settings: int) -> np.ndarray:
    file = io.BytesIO()
    picture.save(file, format=kind, **settings)
    return decode_image(file.getvalue(), DecodeSpec(32, "stretch"))


def drawings(seed: int, count: int, width: int = 150, height: int = 130) -> list[Image.Image]:
    return [
        draw_face(("cat", "dog")[number % 2], width, height, np.random.default_rng([seed, number]))
        for number in range(count)
    ]


def half(picture: Image.Image) -> Image.Image:
    return picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)


@pytest.mark.parametrize(
    "republish",
    [
        lambda picture: thumbnail(picture, "JPEG", quality=30),
        lambda picture: thumbnail(half(picture), "JPEG", quality=80),
        lambda picture: thumbnail(ImageEnhance.Brightness(picture).enhance(1.1)),
        lambda picture: thumbnail(ImageEnhance.Contrast(picture).enhance(0.8)),
        lambda picture: thumbnail(picture.convert("L"), "JPEG", quality=70),
    ],
    ids=["quality 30", "half size", "brighter", "less contrast", "grey"],
)
def test_republished_pictures_are_found(republish: Callable[[Image.Image], np.ndarray]) -> None:
    originals = drawings(5, 40)
    copies = [republish(picture) for picture in originals[:20]]
    pairs = near_duplicates(np.stack([thumbnail(picture) for picture in originals] + copies))
    assert [(pair.first, pair.second) for pair in pairs] == [(number, 40 + number) for number in range(20)]
    assert all(0.78 <= pair.correlation <= 1 for pair in pairs)


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_no_false_alarm_among_600_drawings(seed: int) -> None:
    assert near_duplicates(np.stack([np.asarray(d.resize((32, 32))) for d in drawings(seed, 600, 75, 65)])) == ()


def test_blank_pages_are_no_duplicates_of_each_other() -> None:
    rng = np.random.default_rng(0)
    blank = np.clip(np.array([0, 120, 255, 255])[:, None, None, None] + rng.integers(-1, 2, (4, 32, 32, 3)), 0, 255)
    assert near_duplicates(blank.astype(np.uint8)) == ()
    assert near_duplicates(np.zeros((3, 32, 32, 3), np.uint8)) == ()
    assert near_duplicates(np.zeros((0, 32, 32, 3), np.uint8)) == ()


def test_many_copies_of_one_picture_are_paired_with_the_first() -> None:
    one, other = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), np.uint8)
    pairs = near_duplicates(np.stack([other] + [one] * 5000))
    assert len(pairs) == 4999
    assert pairs[0] == DuplicatePair(1, 2, 1.0)
    assert {pair.first for pair in pairs} == {1}


def test_groups_join_content_and_pictures_transitively(tmp_path: Path) -> None:
    first, second, third = drawings(6, 3)
    for name, save in {
        "a/0.png": lambda path: first.save(path),
        "a/1.jpg": lambda path: first.save(path, quality=40),
        "a/2.jpg": lambda path: half(first).save(path, quality=90),
        "b/3.png": lambda path: second.save(path),
        "b/4.png": lambda path: second.save(path),
        "b/5.png": lambda path: third.save(path),
        "b/6.png": lambda path: path.write_bytes(b""),
    }.items():
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        save(tmp_path / "images" / name)
    index = build_index(find_images(DataConfig(root=str(tmp_path / "images")), tmp_path), tmp_path / "cache", 1)
    groups = duplicate_groups(index)
    assert groups[0] == groups[1] == groups[2]
    assert groups[3] == groups[4]
    assert len({int(groups[position]) for position in (0, 3, 5, 6)}) == 4
    index.write(tmp_path / "index.parquet")
    with pytest.raises(ValueError, match="7 files with 0 thumbnails"):
        duplicate_groups(Index.read(tmp_path / "index.parquet"))


def test_one_pair_is_found_among_many_files() -> None:
    rng = np.random.default_rng(1)
    thumbnails = rng.integers(0, 256, (6000, 32, 32, 3), np.uint8)
    thumbnails[5000] = thumbnails[17]
    assert near_duplicates(thumbnails) == (DuplicatePair(17, 5000, 1.0),)


@pytest.mark.real_data
def test_the_republished_films_and_photos(real_data: Path, tmp_path: Path) -> None:
    found = set()
    for name in ("xray_dataset_covid19", "dogs-vs-cats"):
        index = build_index(find_images(DataConfig(root=str(real_data / name)), tmp_path), tmp_path, 2)
        names = [Path(path).name for path in index.column("path")]
        found |= {frozenset((names[pair.first], names[pair.second])) for pair in near_duplicates(index.thumbnails)}
    assert found == {
        frozenset(("nCoV-Snohomish-20382862_web1_M1-Lungs-EDH-200201-640x300@2x.jpg", "nejmoa2001191_f1-PA.jpeg")),
        frozenset(("auntminnie-2020_01_31_20_24_2322_2020_01_31_x-ray_coronavirus_US.jpg", "nejmoa2001191_f5-PA.jpeg")),
        frozenset(("E63574A7-4188-4C8D-8D17-9D67A18A1AFA.jpeg", "F4341CE7-73C9-45C6-99C8-8567A5484B63.jpeg")),
        frozenset(("dog.74.jpg", "dog.180.jpg")),
    }


def detail(picture: np.ndarray, size: int) -> np.ndarray:
    """Detail as the module defines it, by scipy: the Laplacian of grey values, without the border."""
    grey = picture.astype(float) @ [0.299, 0.587, 0.114]
    halves = grey.reshape(size, 32 // size, size, 32 // size).mean(axis=(1, 3))
    return laplace(halves)[1:-1, 1:-1].ravel()


def mixtures(n: int, seed: int = 0) -> np.ndarray:
    """Pictures in pairs that are alike in all degrees, coarse and fine."""
    rng = np.random.default_rng(seed)
    soft = lambda: np.kron(rng.normal(size=(16, 16, 3)), np.ones((2, 2, 1)))  # noqa: E731
    found = []
    for _ in range(n):
        base, noise = soft() + rng.normal(size=(32, 32, 3)), rng.uniform(0, [0.5, 1.2])
        found += [base, base + noise[0] * soft() + noise[1] * rng.normal(size=(32, 32, 3))]
    return np.clip(np.stack(found) * 22 + 128, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("block", [1024, 7])
def test_pairs_and_correlations_are_those_of_all_pairs(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the size of the blocks that they are looked for in."""
    monkeypatch.setattr(duplicates, "_BLOCK", block)
    thumbnails = mixtures(120)
    coarse, fine = (np.corrcoef([detail(one, size) for one in thumbnails]) for size in (16, 32))
    above = np.triu((coarse >= 0.9) & (fine >= 0.78), k=1)
    near = np.triu(coarse, k=1)
    assert 30 < above.sum() < np.triu(coarse >= 0.9, k=1).sum() - 5
    assert ((near > 0.8) & (near < 0.9)).sum() > 10
    pairs = near_duplicates(thumbnails)
    assert [(pair.first, pair.second) for pair in pairs] == [(int(a), int(b)) for a, b in np.argwhere(above)]
    assert [pair.correlation for pair in pairs] == pytest.approx(
        [fine[pair.first, pair.second] for pair in pairs], abs=1e-5
    )
    # Other limits.
    above = np.triu((coarse >= 0.8) & (fine >= 0.9), k=1)
    assert [(p.first, p.second) for p in near_duplicates(thumbnails, 0.8, 0.9)] == [
        (a, b) for a, b in np.argwhere(above).tolist()
    ]


@pytest.mark.parametrize("amplitude", [1, 2, 3, 4, 6])
def test_pictures_are_blank_below_two_grey_levels_of_detail(amplitude: int) -> None:
    rng = np.random.default_rng(amplitude)
    coarse = np.kron(rng.integers(-amplitude, amplitude + 1, (16, 16)), np.ones((2, 2), int))
    picture = np.repeat((120 + coarse)[:, :, None], 3, axis=2).astype(np.uint8)
    found = detail(picture, 16)
    levels = np.sqrt(np.mean((found - found.mean()) ** 2))
    assert abs(levels - 2) > 0.1
    assert len(near_duplicates(np.stack([picture, picture]))) == (levels > 2)


def test_groups_are_remembered_few_at_a_time_and_copied() -> None:
    indexes = [make_index(["a"] * 3, content=[number, number, 99]) for number in range(6)]
    for index in indexes:
        groups = duplicate_groups(index)
        assert groups.tolist() == [0, 0, 1]
        groups[:] = 7
        assert duplicate_groups(index).tolist() == [0, 0, 1]
    assert len(duplicates._cached) == 4
    # Other bytes or other pictures are another question.
    other = indexes[5].with_column("sha256", ["x", "y", "z"])
    assert duplicate_groups(other).tolist() == [0, 0, 1]
    assert make_index(["a"] * 3).thumbnails.shape == other.thumbnails.shape


def test_detail_is_of_length_one_from_its_least_root_mean_square_on() -> None:
    """Of four pixels: 2 is above sqrt(4) / 2, where the root mean square is 2 and not half of it."""
    above, below = np.array([[2.1, -2.1, 2.1, -2.1]]), np.array([[1.9, -1.9, 1.9, -1.9]])
    assert duplicates._unit(above, 2.0).tolist() == [[0.5, -0.5, 0.5, -0.5]]
    assert not duplicates._unit(below, 2.0).any()
