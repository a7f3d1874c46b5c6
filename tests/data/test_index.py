"""Each file is read once, every bad one is found with its reason, and what is remembered is never wrong."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from raylight.config.schema import DataConfig
from raylight.data.index import INDEX_SCHEMA, Index, build_index, check_bad_fraction
from raylight.data.sources.source import find_images
from raylight.errors import DataError
from tests.data.scan.test_memory import reads
from tests.data.scans import build, picture, row


def test_what_is_known_of_a_file(root: Path) -> None:
    picture(9, 60, 30).convert("L").save(root / "a" / "grey.png")
    index = build(root)
    assert index.table.schema == INDEX_SCHEMA
    assert index.class_names == ("a", "b")
    grey = row(index, "a/grey.png")
    assert (grey["width"], grey["height"], grey["mode"], grey["format"], grey["status"]) == (60, 30, "L", "PNG", "ok")
    assert grey["bytes"] == (root / "a" / "grey.png").stat().st_size
    assert len(grey["sha256"]) == 64
    assert grey["reason"] is None
    assert index.targets().tolist() == [0, 0, 0, 1, 1]
    position = list(index.column("path")).index("b/2.jpg")
    shown = np.asarray(picture(2).resize((32, 32), Image.Resampling.BILINEAR), dtype=float)
    assert np.abs(index.thumbnails[position] - shown).mean() < 6


def png_of_16_bits(pixels: np.ndarray) -> bytes:
    """Colour of 16 bits a channel, which Pillow reads but doesn't write (PNG specification, section 5)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, {3: 2, 4: 6}[pixels.shape[2]], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def tiff_of_16_bits(pixels: np.ndarray, photometric: int) -> bytes:
    """One uncompressed strip (TIFF 6.0, sections 2, 8 and 16); photometric 0: zero is white, 5: inks."""
    height, width, channels = pixels.shape
    values = pixels.astype("<u2").tobytes() + struct.pack(f"<{channels}H", *[16] * channels)
    bits = 8 + pixels.size * 2 if channels > 2 else 16
    entries = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits),
        (259, 4, 1, 1),
        (262, 4, 1, photometric),
    ]
    entries += [(273, 4, 1, 8), (277, 4, 1, channels), (278, 4, 1, height), (279, 4, 1, pixels.size * 2)]
    directory = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return (
        b"II*\0" + struct.pack("<I", 8 + len(values)) + values + struct.pack("<H", len(entries)) + directory + bytes(4)
    )


def test_inks_and_transparency_of_12_bits_are_noted_though_they_look_white(root: Path) -> None:
    """Of 16 bits with the upper 4 unused; those that use them, and pictures that are white, aren't."""
    grey = np.asarray(picture(4).convert("L"), np.uint16)
    for name, shift in (("twelve", 4), ("sixteen", 8)):
        values = grey << shift
        (root / "b" / f"{name}, alpha.png").write_bytes(png_of_16_bits(np.stack([values] * 4, axis=2)))
        (root / "b" / f"{name}, inks.tif").write_bytes(tiff_of_16_bits(np.stack([values] * 4, axis=2), 5))
        (root / "b" / f"{name}, white is zero.tif").write_bytes(tiff_of_16_bits(values[..., None], 0))
    opaque = np.stack([grey << 4] * 3 + [np.full_like(grey, 65535)], axis=2)
    (root / "b" / "twelve, opaque.png").write_bytes(png_of_16_bits(opaque))
    (root / "b" / "white.png").write_bytes(png_of_16_bits(np.full((32, 32, 4), 65535)))
    assert build(root).notes() == [
        (f"b/twelve, {name}", f"nearly {looks}: only the lower 12 of its 16 bits are used")
        for name, looks in (
            ("alpha.png", "white"),
            ("inks.tif", "white"),
            ("opaque.png", "black"),
        )
    ]
    assert build(root).rejected() == []


def test_what_is_odd_about_a_good_file_is_noted(root: Path) -> None:
    frames = [picture(number) for number in range(3)]
    for name in ("moving.gif", "moving.png", "moving.webp", "pages.tif"):
        frames[0].save(root / "a" / name, save_all=True, append_images=frames[1:])
    grey = np.asarray(picture(4).convert("L"), np.uint16)
    Image.fromarray(grey << 4).save(root / "b" / "twelve bits.png")
    Image.fromarray(grey << 8).save(root / "b" / "sixteen bits.png")
    Image.fromarray(grey << 4).save(root / "b" / "twelve bits.tif")
    (root / "b" / "twelve bits, colour.png").write_bytes(png_of_16_bits(np.stack([grey << 4] * 3, axis=2)))
    (root / "b" / "sixteen bits, colour.png").write_bytes(png_of_16_bits(np.stack([grey << 8] * 3, axis=2)))
    Image.new("RGB", (32, 32), (9, 9, 9)).save(root / "b" / "eight bits, dark.png")
    first = "only the first of its frames or pages is used"
    assert build(root).notes() == [
        ("a/moving.gif", first),
        ("a/moving.png", first),
        ("a/moving.webp", first),
        ("a/pages.tif", first),
        ("b/twelve bits, colour.png", "nearly black: only the lower 12 of its 16 bits are used"),
    ]
    assert build(root).rejected() == []


def test_thumbnails_stay_on_disk(root: Path) -> None:
    assert isinstance(build(root).thumbnails, np.memmap)


def test_select_and_reject(root: Path) -> None:
    index = build(root).with_column("split", ["train", "val", "test", "train"])
    assert list(index.in_split("train").column("path")) == ["a/0.jpg", "b/3.jpg"]
    assert np.array_equal(index.select(index.column("split") == "val").thumbnails, index.thumbnails[1:2])
    some = index.select(np.array([3, 0]))
    assert list(some.column("label")) == ["b", "a"]
    assert np.array_equal(some.thumbnails, index.thumbnails[[3, 0]])
    sha = row(index, "a/0.jpg")["sha256"]
    less = index.reject({sha: "turned bad"})
    assert less.rejected() == [("a/0.jpg", "turned bad")]
    assert list(less.column("split")) == [None, "val", "test", "train"]
    assert index.rejected() == []


def test_a_spread_goes_from_the_first_row_to_the_last(root: Path) -> None:
    index = build(root).select(np.array([0, 1, 2, 0, 1, 2, 0, 1, 2])).with_column("split", list("abcdefghi"))
    assert [len(index.spread(most)) for most in (1, 3, 9, 20)] == [1, 3, 9, 9]
    assert list(index.spread(3).column("split")) == ["a", "e", "i"]


def test_written_and_read_back(root: Path, tmp_path: Path) -> None:
    (root / "a" / "\u96ea \n.jpg").write_bytes((root / "a" / "0.jpg").read_bytes())
    index = build(root, positive_class="a", group_pattern=r"^(\d)").with_column("split", ["train"] * 5)
    index.write(tmp_path / "index.parquet")
    back = Index.read(tmp_path / "index.parquet")
    assert back.table.equals(index.table)
    assert (back.root, back.class_names, back.positive_class) == (root, ("a", "b"), "a")
    assert len(back.in_split("train")) == 5
    with pytest.raises(DataError, match=r"nothing.parquet isn't an index that Raylight wrote"):
        Index.read(tmp_path / "nothing.parquet")
    pa.parquet.write_table(pa.table({"path": ["x"]}), tmp_path / "other.parquet")
    with pytest.raises(DataError, match="isn't an index"):
        Index.read(tmp_path / "other.parquet")


def test_too_many_bad_files_stop_and_are_named(root: Path) -> None:
    for number in range(8):
        (root / "a" / f"bad{number}.jpg").write_bytes(b"")
    index = build(root)
    check_bad_fraction(index, DataConfig(max_bad_fraction=0.7))
    with pytest.raises(DataError) as caught:
        check_bad_fraction(index, DataConfig(max_bad_fraction=0.5))
    message = str(caught.value)
    assert "8 of 12 files" in message
    assert "data.max_bad_fraction=0.5 allows 50.0%" in message
    assert "'a/bad0.jpg': the file is empty" in message
    assert "... and 3 more" in message
    with pytest.raises(DataError, match="8 of 8 files"):
        check_bad_fraction(index.select(index.column("status") == "bad"), DataConfig(max_bad_fraction=1.0))


def test_unwritable_cache_is_said(root: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"cache_dir=.*file can't be written: Not a directory"):
        build_index(find_images(DataConfig(root=str(root)), root), tmp_path / "file", 1)


@pytest.mark.real_data
def test_real_photos_are_read_once(real_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = find_images(DataConfig(root=str(real_data / "dogs-vs-cats")), tmp_path)
    seen = reads(monkeypatch)
    index = build_index(source, tmp_path, 2)
    assert len(seen) == 2002
    assert build_index(source, tmp_path, 2).table.equals(index.table)
    assert len(seen) == 2002
    assert index.rejected() == []
