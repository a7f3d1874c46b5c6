"""Names and rows of image caches, and making one of pixels that are there already."""

from pathlib import Path

import numpy as np
import pytest

from raylight.data.cache_building import exclusive, find, first_positions, publish, rows_of_contents, temporary
from raylight.data.cache_files import PixelFile, without_gaps
from raylight.data.decode.spec import DecodeSpec

SPEC = DecodeSpec(4, "stretch")


def image(number: int) -> np.ndarray:
    return np.full(SPEC.image_shape, number, np.uint8)


def published(images: Path, contents: list[str | None], refused: dict[int, str]) -> None:
    images.mkdir(exist_ok=True)
    with (
        exclusive(images / "scan"),
        temporary(images / "scan") as folder,
        PixelFile(folder, len(contents), SPEC) as pixels,
    ):
        for row, content in reversed(list(enumerate(contents))):
            if row in refused:
                pixels.refuse(row, refused[row])
            elif content is not None:
                pixels.write(row, image(ord(content)))
        publish(pixels, first_positions(contents))


@pytest.mark.parametrize("seed", range(5))
def test_each_content_has_one_row_and_most_stay_where_they_are(seed: int, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    contents = [None if letter == "z" else str(letter) for letter in rng.choice(list("abcdefghijklmnopqrsz"), 40)]
    positions = first_positions(contents)
    assert positions == {letter: contents.index(letter) for letter in set(contents) - {None}}
    rows = rows_of_contents(contents)
    assert list(rows.values()) == list(range(len(positions)))
    assert all(rows[letter] == row for letter, row in positions.items() if row < len(positions))
    refused = {positions[str(letter)]: "too large" for letter in rng.choice(list(positions), 3, replace=False)}
    published(tmp_path / "images", contents, refused)
    (folder,) = [path for path in (tmp_path / "images").iterdir() if path.is_dir()]
    content, fault = find(folder, sorted(rows), SPEC)
    assert content is not None, fault
    pixels, found, reasons = content
    assert {positions[letter] for letter in reasons} == set(refused)
    assert without_gaps({letter: row for letter, row in rows.items() if letter not in reasons}) == dict(
        sorted(found.items(), key=lambda item: item[1])
    )
    assert all(np.array_equal(pixels[row], image(ord(letter))) for letter, row in found.items())


def test_a_valid_cache_stays_and_a_damaged_one_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    images = tmp_path / "images"
    published(images, ["a", "b"], {})
    (folder,) = [path for path in images.iterdir() if path.is_dir()]
    before = (folder / "pixels.npy").stat().st_ino
    published(images, ["b", "a", "b"], {})
    assert (folder / "pixels.npy").stat().st_ino == before
    (folder / "pixels.npy").write_bytes(b"short")
    published(images, ["b", "a", "b"], {})
    assert "Rebuilding the image cache" in caplog.text
    content, _ = find(folder, ["a", "b"], SPEC)
    assert content is not None
    assert content[1] == {"a": 1, "b": 0}
    assert sorted(path.name for path in images.iterdir() if path.is_dir()) == [folder.name]


def test_no_image_makes_no_cache(tmp_path: Path) -> None:
    published(tmp_path / "images", [None, None], {})
    assert [path for path in (tmp_path / "images").iterdir() if path.is_dir()] == []
