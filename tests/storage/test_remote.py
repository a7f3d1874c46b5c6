"""Files behind a URI are found, indexed and decoded like those in a folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.config.schema import DataConfig
from raylight.data.cache import cached_images
from raylight.data.decode.blocks import Engine
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index, build_index
from raylight.data.sources.source import find_images
from raylight.errors import DataError
from raylight.storage.remote import RemotePath, to_path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes of three pictures, with names that a URI has to quote, one stray and one hidden file."""
    folder = tmp_path / "my photos é"
    generator = np.random.default_rng(2)
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for number in range(3):
            pixels = generator.integers(0, 256, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(folder / label / f"{label} #{number}%.png")
    (folder / "cat" / "notes.txt").write_text("no picture")
    (folder / ".hidden.png").touch()
    return folder


def indexed(root: str, cache: Path, **settings: str) -> Index:
    return build_index(find_images(DataConfig(root=root, **settings), cache), cache, 2)


def test_a_uri_and_a_folder_give_the_same_index_and_images(root: Path, tmp_path: Path) -> None:
    here, there = indexed(str(root), tmp_path / "c"), indexed(f"file://{root}", tmp_path / "c")
    assert here.table.equals(there.table)
    assert np.array_equal(here.thumbnails, there.thumbnails)
    assert isinstance(there.root, RemotePath)
    there.write(tmp_path / "index.parquet")
    assert Index.read(tmp_path / "index.parquet").root == there.root
    found = [
        cached_images(index, DecodeSpec(20, "stretch"), Engine("threads"), folder, lambda *_: None)
        for index, folder in ((here, tmp_path / "0"), (there, tmp_path / "1"))
    ]
    assert [(cache.rejected, len(cache.pixels)) for cache in found] == [({}, 6)] * 2
    assert np.array_equal(found[0].pixels, found[1].pixels)


def test_only_what_has_changed_is_read_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = indexed(f"file://{root}", tmp_path / "c")
    read: list[str] = []
    whole = RemotePath.read_bytes
    monkeypatch.setattr(RemotePath, "read_bytes", lambda path: read.append(path.name) or whole(path))
    assert indexed(f"file://{root}", tmp_path / "c").table.equals(before.table)
    assert read == []
    Image.new("RGB", (30, 30)).save(root / "dog" / "dog #1%.png")
    assert not indexed(f"file://{root}", tmp_path / "c").table.equals(before.table)
    assert read == ["dog #1%.png"]


def test_a_table_of_labels_may_lie_beside_the_images(root: Path, tmp_path: Path) -> None:
    lines = ["path,label"] + [
        f"{label}/{label} #{number}%.png,{label}" for label in ("cat", "dog") for number in (0, 1)
    ]
    (root / "labels.csv").write_text("\n".join(lines))
    assert len(indexed(f"file://{root}", tmp_path / "c", csv="labels.csv").usable()) == 4


def test_what_is_not_there_is_said(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"the folder file:///.*/nowhere doesn't exist"):
        indexed(f"file://{root}/nowhere", tmp_path)
    with pytest.raises(DataError, match=r"nosuch://bucket: pyarrow can't open this filesystem: .* s3://BUCKET/FOLDER"):
        to_path("nosuch://bucket/photos")
    with pytest.raises(FileNotFoundError):
        (to_path(f"file://{root}") / "cat" / "missing.png").read_bytes()
