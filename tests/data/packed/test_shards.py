"""Files with many images each are found in folders, behind URIs, and by the key of an image."""

from pathlib import Path

import pytest

from raylight.data.packed.shards import Shards, split_of
from raylight.errors import DataError
from raylight.storage.remote import RemotePath


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards, one of them in a folder that is named like a shard, beside what is none."""
    folder = tmp_path / "my set"
    for name in ("b.tar", "old.tar/train/a.tar", "notes.txt", ".hidden.tar", ".cache/c.tar"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    return folder


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_is_searched_in_depth(folder: Path, scheme: str) -> None:
    shards = Shards(f"{scheme}{folder}", ".tar", "tar archive")
    assert [*shards.found()] == ["b.tar", "old.tar/train/a.tar"]
    shard = shards.found()["old.tar/train/a.tar"]
    assert shard.path.read_bytes() == b"old.tar/train/a.tar"
    assert shard.modified == (folder / shard.name).stat().st_mtime_ns
    assert shards.split_key("old.tar/train/a.tar/cat/1.jpg") == ("old.tar/train/a.tar", "cat/1.jpg")
    with pytest.raises(KeyError):
        shards.split_key("c.tar/1.jpg")
    assert isinstance(shard.path, RemotePath) is bool(scheme)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_file_is_its_only_shard(folder: Path, scheme: str) -> None:
    shards = Shards(f"{scheme}{folder / 'b.tar'}", ".tar", "tar archive")
    assert [*shards.found()] == ["b.tar"]
    assert shards.path("b.tar").read_bytes() == b"b.tar"
    assert shards.split_key("b.tar/1.jpg") == ("b.tar", "1.jpg")


def test_any_filesystem_of_fsspec_will_do() -> None:
    """``memory`` stands for the others: ``abfs``, ``http``, ``hf``, ..., see fsspec's registry."""
    import fsspec

    fsspec.filesystem("memory").pipe({"/set/train-0.tar": b"content"})
    shards = Shards("fsspec+memory://set", ".tar", "tar archive")
    assert {name: shard.path.read_bytes() for name, shard in shards.found().items()} == {"train-0.tar": b"content"}


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_place_without_any_is_named(folder: Path, scheme: str) -> None:
    for root in (folder, folder / "nowhere"):
        with pytest.raises(DataError, match=rf"data.root={scheme}/\S+.*: no Parquet file is there; .* with \*.parquet"):
            Shards(f"{scheme}{root}", ".parquet", "Parquet file").found()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00004.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "val"),
        ("test/shard-3.tar", "test"),
        ("train/test-0.tar", "test"),
        ("training.tar", "train"),
        ("trainer-0.tar", None),
    ],
)
def test_a_name_tells_the_split(name: str, split: str | None) -> None:
    assert split_of(name) == split
