"""Parquet as Hugging Face's datasets saves it, through index, split, cache and stream as folders go."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raylight.config.schema import DataConfig, RayConfig
from raylight.data.cache import cached_images
from raylight.data.decode.blocks import THREADS, Engine
from raylight.data.decode.engines import decode_files
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index, build_index
from raylight.data.packed.parquet import Parquet
from raylight.data.scan.memory import Decoding
from raylight.data.sources.source import find_images
from raylight.data.splits.split import assign_splits
from raylight.errors import DataError

SPEC = DecodeSpec(16, "stretch")


def jpeg(number: int) -> bytes:
    pixels = np.random.default_rng(number).integers(0, 256, (6, 7, 3), np.uint8).repeat(5, 0).repeat(5, 1)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def save(
    file: Path, contents: list[bytes], labels: list[int], names: list[str] | None = None, **columns: list[object]
) -> None:
    """As ``Dataset.to_parquet`` does: a struct of bytes and path, names of classes in the schema's metadata."""
    image = pa.array(
        [{"bytes": content, "path": f"photo{place}.jpg"} for place, content in enumerate(contents)],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    )
    table = pa.table({"image": image, "label": pa.array(labels, pa.int64()), **columns})
    features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
    note = {"info": {"features": features if names else {"image": {"_type": "Image"}}}}
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(note)}), file, row_group_size=5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "set"
    images = [jpeg(number) for number in range(40)]
    images[7] = images[7][:200]
    labels, patients = [number % 2 for number in range(40)], [f"p{number // 4}" for number in range(40)]
    save(
        root / "data" / "train-00000-of-00002.parquet", images[:16], labels[:16], ["cat", "dog"], patient=patients[:16]
    )
    save(
        root / "data" / "train-00001-of-00002.parquet",
        images[16:32],
        labels[16:32],
        ["cat", "dog"],
        patient=patients[16:32],
    )
    save(root / "data" / "test-00000-of-00001.parquet", images[32:], labels[32:], ["cat", "dog"], patient=patients[32:])
    return root


def config(root: Path, **settings: object) -> DataConfig:
    node = {"_target_": "raylight.data.packed.parquet.Parquet", "root": str(root), **settings}
    return DataConfig(name="parquet", source=node, val_fraction=0.25)


def index_of(data: DataConfig, cache: Path) -> Index:
    return build_index(find_images(data, cache), cache, workers=2)


def test_a_data_set_is_what_its_files_say(root: Path, tmp_path: Path) -> None:
    index = index_of(config(root, group="patient"), tmp_path / "cache")
    assert index.class_names == ("cat", "dog")
    assert len(index) == 40
    assert [path for path, _ in index.rejected()] == ["data/train-00000-of-00002.parquet/00000007/photo7.jpg"]
    assert index.column("path")[0] == "data/test-00000-of-00001.parquet/00000000/photo0.jpg"
    assert list(index.column("split")[:9]) == ["test"] * 8 + ["train"]
    assert list(index.column("group")[8:13]) == ["p0", "p0", "p0", "p0", "p1"]
    assert index.targets()[8:12].tolist() == [0, 1, 0, 1]
    split = assign_splits(index, config(root), 1)
    by_group: dict[str, set[str]] = {}
    for group, name in zip(split.column("group"), split.column("split"), strict=True):
        by_group.setdefault(group, set()).add(name)
    assert {"train", "val", "test"} == set().union(*by_group.values()) - {None}
    assert all(len(names - {None}) == 1 for names in by_group.values())


def test_further_columns_are_metadata(root: Path, tmp_path: Path) -> None:
    index = index_of(config(root), tmp_path / "cache")
    assert json.loads(index.column("metadata")[8]) == {"patient": "p0"}
    index.write(tmp_path / "index.parquet")
    again = Index.read(tmp_path / "index.parquet")
    assert json.loads(again.column("metadata")[8]) == {"patient": "p0"}
    assert (again.root / again.column("path")[0]).read_bytes() == jpeg(32)


def test_what_is_unchanged_is_not_read_again(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, reads, read = index_of(config(root), tmp_path / "cache"), [], Parquet.read
    monkeypatch.setattr(Parquet, "read", lambda self, key: (reads.append(key), read(self, key))[1])
    assert index_of(config(root), tmp_path / "cache").table.equals(first.table)
    assert reads == []


@pytest.mark.parametrize("engine", ["threads", pytest.param("ray", marks=pytest.mark.long)])
def test_cached_images_are_those_of_the_rows(
    root: Path, tmp_path: Path, engine: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Decoded in the pass that indexes them; where Ray starts for that, its time is told."""
    caplog.set_level("INFO")
    ray = RayConfig(object_store_gb=0.2)
    source, decoding = find_images(config(root), tmp_path), Decoding(SPEC, engine=Engine(engine, 2, ray))
    index = build_index(source, tmp_path / "cache", 2, decoding=decoding)
    assert ("first images after" in caplog.text) == (engine == "ray")
    cache = cached_images(index, SPEC, THREADS, tmp_path / "cache", lambda *_: pytest.fail("decoded again"))
    test = cache.samples(index.in_split("test"))
    for place, row in enumerate(test.rows):
        assert np.array_equal(cache.pixels[row], decode_image(jpeg(32 + place), SPEC))
    if engine == "ray":
        bad = [str(index.root / path) for path in index.column("path")[8:20]]
        reasons = [why for block in decode_files(bad, SPEC, Engine("ray", ray=ray)) for why in block.reasons if why]
        assert reasons == ["the JPEG file ends before its image data"]


def test_plain_bytes_and_unnamed_labels_do_as_well(tmp_path: Path) -> None:
    table = pa.table({"picture": pa.array([jpeg(1), jpeg(2)], pa.binary()), "kind": ["a", "b"], "age": [3, 4]})
    pq.write_table(table, tmp_path / "one.parquet")
    entries = Parquet(str(tmp_path / "one.parquet"), label="kind").entries().to_pylist()
    assert [(row["label"], row["split"], row["age"]) for row in entries] == [("a", None, 3), ("b", None, 4)]
    assert Parquet(str(tmp_path / "one.parquet"), label="kind").read(entries[1]["key"]) == jpeg(2)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no Parquet file is there"):
        Parquet(str(tmp_path)).entries()
    pq.write_table(pa.table({"picture": [b"x"], "kind": ["a"]}), tmp_path / "one.parquet")
    with pytest.raises(DataError, match=r"data\.source\.label isn't given; possible columns: kind$"):
        Parquet(str(tmp_path)).entries()
    with pytest.raises(DataError, match=r"data\.source\.image is 'pictur'; did you mean 'picture'"):
        Parquet(str(tmp_path), image="pictur", label="kind").entries()
    save(tmp_path / "two" / "test.parquet", [jpeg(1), jpeg(2)], [0, -1])
    with pytest.raises(DataError, match="row 1 has no label"):
        Parquet(str(tmp_path / "two")).entries()
    (tmp_path / "three.parquet").write_bytes(b"nothing")
    with pytest.raises(DataError, match="can't be read as a Parquet file"):
        Parquet(str(tmp_path / "three.parquet")).entries()
