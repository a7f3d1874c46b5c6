"""Tar archives as WebDataset writes them, through index, cache and stream."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest

from raylight.config.schema import DataConfig
from raylight.data.cache import cached_images
from raylight.data.decode.blocks import Engine
from raylight.data.decode.image import decode_image
from raylight.data.index import build_index
from raylight.data.packed.tar import TarShards
from raylight.data.sources.source import find_images
from raylight.data.stream import Stream
from raylight.errors import DataError
from tests.data.packed.test_parquet import SPEC, jpeg


def write(file: Path, members: dict[str, bytes], mode: str = "w") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    for shard, split in enumerate(("train", "train", "test")):
        members = {}
        for place in range(8):
            number = 8 * shard + place
            members[f"{number:06d}.jpg"] = jpeg(number)
            members[f"{number:06d}.cls"] = f"{number % 2}\n".encode()
            members[f"{number:06d}.json"] = json.dumps(
                {"patient": f"p{number // 4}", "age": number, "tags": ["x"]}
            ).encode()
        write(root / f"{split}-{shard:06d}.tar", members)
    return root


def config(root: Path, **settings: object) -> DataConfig:
    node = {"_target_": "raylight.data.packed.tar.TarShards", "root": str(root), **settings}
    return DataConfig(name="tar", source=node)


def test_a_data_set_is_what_its_archives_say(root: Path, tmp_path: Path) -> None:
    data = config(root, classes=["cat", "dog"], group="patient")
    index = build_index(find_images(data, tmp_path), tmp_path / "cache", workers=2)
    assert index.class_names == ("cat", "dog")
    assert list(index.column("path")[:2]) == ["test-000002.tar/000016.jpg", "test-000002.tar/000017.jpg"]
    assert list(index.column("split")) == ["test"] * 8 + ["train"] * 16
    assert list(index.column("group")[:5]) == ["p4", "p4", "p4", "p4", "p5"]
    assert json.loads(index.column("metadata")[1]) == {"age": 17, "tags": '["x"]'}
    assert index.rejected() == []
    assert list(index.column("bytes")[:2]) == [len(jpeg(16)), len(jpeg(17))]
    cache = cached_images(index, SPEC, Engine("threads"), tmp_path / "cache", lambda *_: None)
    test = cache.samples(index.in_split("test"))
    for place, row in enumerate(test.rows):
        assert np.array_equal(cache.pixels[row], decode_image(jpeg(16 + place), SPEC))


def test_labels_come_from_json_or_the_folder_too(tmp_path: Path) -> None:
    write(
        tmp_path / "mixed.tar",
        {
            "a/1.jpg": jpeg(1),
            "b/2.jpg": jpeg(2),
            "b/2.json": b'{"label": "c"}',
            "b/._2.jpg": b"notes of macOS",
            "b/3.name.jpg": jpeg(3),
            "b/3.cls": b"d",
        },
    )
    source = TarShards(str(tmp_path / "mixed.tar"))
    assert {row["key"]: row["label"] for row in source.entries().to_pylist()} == {
        "mixed.tar/a/1.jpg": "a",
        "mixed.tar/b/2.jpg": "c",
        "mixed.tar/b/3.name.jpg": "d",
    }
    assert source.read("mixed.tar/b/3.name.jpg") == jpeg(3)


def test_what_is_missing_in_json_is_no_value_and_0_is_one(tmp_path: Path) -> None:
    said = [
        {"label": "c", "patient": 0, "age": None},
        {"label": 0, "patient": None, "age": 0},
        {"label": None, "patient": float("nan"), "sex": ""},
        {"label": False, "patient": "", "age": float("nan")},
        {},
    ]
    members = {f"folder/{k}.jpg": jpeg(k) for k in range(len(said))}
    members |= {f"folder/{k}.json": json.dumps(one).encode() for k, one in enumerate(said)}
    write(tmp_path / "t.tar", members)
    rows = TarShards(str(tmp_path), group="patient").entries().to_pylist()
    assert [(row["label"], row["group"], row["age"]) for row in rows] == [
        ("c", "0", None),
        ("0", None, 0),
        ("folder", None, None),
        ("False", None, None),
        ("folder", None, None),
    ]
    assert "sex" not in rows[0]


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no tar archive is there"):
        TarShards(str(tmp_path)).entries()
    write(tmp_path / "zipped.tar", {"a/1.jpg": jpeg(1)}, "w:gz")
    with pytest.raises(DataError, match="can't be read as an uncompressed tar archive"):
        TarShards(str(tmp_path)).entries()
    write(tmp_path / "zipped.tar", {"1.jpg": jpeg(1)})
    with pytest.raises(DataError, match=r"1\.jpg: no label"):
        TarShards(str(tmp_path)).entries()
    write(tmp_path / "zipped.tar", {"1.jpg": jpeg(1), "1.json": b'{"label": null}'})
    with pytest.raises(DataError, match=r"1\.jpg: no label"):
        TarShards(str(tmp_path)).entries()
    write(tmp_path / "zipped.tar", {"1.jpg": jpeg(1), "1.cls": b"5"})
    with pytest.raises(DataError, match=r"class 5, but data\.source\.classes names 2"):
        TarShards(str(tmp_path), classes=["a", "b"]).entries()
    write(tmp_path / "zipped.tar", {"1.jpg": jpeg(1), "1.json": b"{"})
    with pytest.raises(DataError, match=r"its \.json can't be read"):
        TarShards(str(tmp_path)).entries()


def test_they_stream(root: Path, tmp_path: Path) -> None:
    index = build_index(find_images(config(root), tmp_path), tmp_path / "cache", workers=2)
    samples = Stream(index, SPEC, Engine("threads"), 0).samples(index.in_split("test"))
    order = np.arange(8)
    for place, pixels in enumerate(samples.images(order, order)):
        assert np.array_equal(pixels, decode_image(jpeg(16 + place), SPEC))
