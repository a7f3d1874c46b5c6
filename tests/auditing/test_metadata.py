"""What is known of a file without looking at its picture, against files whose facts are known."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.auditing.metadata import file_metadata, read_makers
from tests.auditing.test_files import index_of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A wide grey photo by Acme, a tall black and white drawing, a small bright photo."""
    for label in ("cat", "dog"):
        (tmp_path / "photos" / label).mkdir(parents=True)
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Acme", "Acme"
    Image.new("RGB", (90, 60), (51, 51, 51)).save(tmp_path / "photos/cat/a.jpg", exif=exif)
    halves = np.zeros((80, 40), np.uint8)
    halves[40:] = 255
    Image.fromarray(halves).save(tmp_path / "photos/cat/b.png")
    Image.new("RGB", (64, 64), (255, 255, 255)).save(tmp_path / "photos/dog/c.jpg")
    return tmp_path / "photos"


def test_facts_are_those_of_the_files(photos: Path, tmp_path: Path) -> None:
    index = index_of(photos, tmp_path).usable()
    facts = file_metadata(index, read_makers(photos, list(index.column("path")), 2))
    table = dict(zip(facts.names, facts.values.T, strict=True))
    size = np.array([(photos / path).stat().st_size for path in ("cat/a.jpg", "cat/b.png", "dog/c.jpg")])
    pixels = np.array([90 * 60, 80 * 40, 64 * 64])
    assert table["width"].tolist() == [90, 40, 64]
    assert table["height"].tolist() == [60, 80, 64]
    assert table["aspect ratio"].tolist() == [1.5, 0.5, 1]
    assert table["file size"].tolist() == size.tolist()
    np.testing.assert_allclose(table["bytes per pixel"], size / pixels, rtol=1e-6)
    assert table["brightness"] == pytest.approx([51, 127.5, 255], abs=2)
    assert table["contrast"] == pytest.approx([0, 127.5, 0], abs=2)
    words = {
        name: [known[int(code)] for code in column]
        for name, column, known in zip(facts.names, facts.values.T, facts.words, strict=True)
        if known
    }
    assert words == {
        "file format": ["JPEG", "PNG", "JPEG"],
        "colour mode": ["RGB", "L", "RGB"],
        "camera": ["Acme", "", ""],
    }
    assert [name for name, shown in zip(facts.names, facts.from_pixels, strict=True) if shown] == [
        "brightness",
        "contrast",
    ]


def test_damaged_notes_name_no_camera(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0damaged")
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    assert read_makers(tmp_path, ["a.jpg", "b.jpg"], 1) == ("", "")
