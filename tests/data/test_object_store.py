"""Images in a bucket, behind a server that speaks S3, are indexed, decoded and learnt from where they are."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.config.schema import DataConfig, RayConfig
from raylight.data.cache import cached_images
from raylight.data.decode.blocks import Engine
from raylight.data.index import Index, build_index
from raylight.data.sources.source import find_images
from raylight.data.splits.split import assign_splits
from raylight.data.stream import Stream
from raylight.errors import DataError
from tests.data.packed.test_parquet import SPEC, jpeg, save
from tests.data.packed.test_tar import write
from tests.forked import last_line
from tests.storage.test_remote import indexed


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """A server of this process's own, on the loopback interface."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def account(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the environment must say for pyarrow to find the server and be let in."""
    settings = {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "something",
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    return settings


@pytest.fixture
def bucket(endpoint: str, account: dict[str, str], tmp_path: Path) -> tuple[str, Path]:
    """The same 80 pictures in a bucket and in a folder: bright cats and dark dogs, and one cut off."""
    from pyarrow.fs import S3FileSystem

    store = S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True)
    store.create_dir("photos")
    folder, generator = tmp_path / "photos", np.random.default_rng(3)
    for label, brightness in (("cat", 150), ("dog", 20)):
        (folder / label).mkdir(parents=True)
        for number in range(40):
            file = folder / label / f"{label} {number}.jpg"
            pixels = generator.integers(brightness, brightness + 80, (40, 50, 3), np.uint8)
            Image.fromarray(pixels).save(file)
            if (label, number) == ("cat", 7):
                file.write_bytes(file.read_bytes()[:-100])
            with store.open_output_stream(f"photos/pets/{label}/{file.name}") as out:
                out.write(file.read_bytes())
    return "s3://photos/pets", folder


def test_a_bucket_and_a_folder_give_the_same_index(bucket: tuple[str, Path], tmp_path: Path) -> None:
    uri, folder = bucket
    there, here = indexed(uri, tmp_path / "c"), indexed(str(folder), tmp_path / "c")
    assert there.table.equals(here.table)
    assert np.array_equal(there.thumbnails, here.thumbnails)
    assert len(there.usable()) == 79


def test_ray_decodes_a_bucket_and_the_run_tells_the_bad_file(
    bucket: tuple[str, Path], train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    uri, _ = bucket
    done = train(
        "data=folder", f"data.root={uri}", "data.positive_class=dog", "trainer.max_epochs=1", "trainer.batch_size=8",
        "trainer.threads=1", "report.enabled=false", "report.plots=false",
        "logger=csv", "model.image_size=32", "data.group_duplicates=false", f"cache_dir={tmp_path / 'cache'}", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = last_line(done)
    assert "1 of 80 files can't be used" in done.stdout
    assert "cat/cat 7.jpg" in (run / "rejected.csv").read_text()
    index = Index.read(run / "index.parquet")
    assert str(index.root) == uri
    assert len(index.in_split("train")) > 40


def test_a_bucket_that_is_not_there_is_named(account: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="s3://nobodys/photos"):
        indexed("s3://nobodys/photos", tmp_path)
    for target, what in (("parquet.Parquet", "no Parquet file"), ("tar.TarShards", "no tar archive")):
        with pytest.raises(DataError, match=f"data.root=s3://nobodys/photos: {what} is there"):
            find_images(packed(target, "s3://nobodys/photos"), tmp_path)


def packed(target: str, root: str) -> DataConfig:
    node = {"_target_": f"raylight.data.packed.{target}", "root": root, "group": "patient"}
    return DataConfig(name="packed", source=node, val_fraction=0.25)


@pytest.fixture(params=["parquet.Parquet", "tar.TarShards"])
def shards(request: pytest.FixtureRequest, endpoint: str, account: dict[str, str], tmp_path: Path) -> tuple[str, Path]:
    """The class of a source, and a folder with two shards of 24 and 8 pictures, which a bucket holds as well.

    Four pictures are of one patient, the seventh is cut off, the tenth is the ninth again.
    """
    from pyarrow.fs import S3FileSystem

    folder = tmp_path / "packed shards"
    images = [jpeg(number) for number in range(32)]
    images[7], images[10] = images[7][:200], images[9]
    for split, part in (("train", range(24)), ("test", range(24, 32))):
        if request.param == "parquet.Parquet":
            file, patients = folder / f"{split}-00000-of-00001.parquet", [f"p{number // 4}" for number in part]
            some, labels = [images[number] for number in part], [number % 2 for number in part]
            save(file, some, labels, ["cat", "dog"], patient=patients)
        else:
            members = {}
            for number in part:
                members[f"{number:03d}.jpg"] = images[number]
                members[f"{number:03d}.json"] = f'{{"label": "{number % 2}", "patient": "p{number // 4}"}}'.encode()
            write(folder / f"{split}-000000.tar", members)
    store = S3FileSystem(endpoint_override=endpoint, allow_bucket_creation=True)
    store.create_dir("shards")
    store.delete_dir_contents("shards")
    for file in folder.iterdir():
        with store.open_output_stream(f"shards/my set/{file.name}") as out:
            out.write(file.read_bytes())
    return request.param, folder


def test_shards_in_a_bucket_are_what_they_are_in_a_folder(shards: tuple[str, Path], tmp_path: Path) -> None:
    target, folder = shards
    found, pixels = [], []
    for root in ("s3://shards/my set", str(folder)):
        data = packed(target, root)
        index = build_index(find_images(data, tmp_path), tmp_path / "cache", workers=3)
        found.append(assign_splits(index, data, 1).table)
        cache = cached_images(index, SPEC, Engine("threads"), tmp_path / f"images {len(found)}", lambda *_: None)
        test = cache.samples(index.in_split("test"))
        streamed = Stream(index, SPEC, Engine("threads"), 4).samples(index.in_split("test"))
        order = np.arange(8)
        assert np.array_equal(np.stack(list(streamed.images(order, order))), cache.pixels[test.rows])
        pixels.append(np.asarray(cache.pixels))
    assert found[0].equals(found[1])
    assert np.array_equal(*pixels)
    rows = found[0].to_pylist()
    (bad,) = (row for row in rows if row["status"] == "bad")
    assert bad["path"].endswith("7.jpg")
    assert (bad["group"], bad["split"]) == ("p1", None)
    assert {row["split"] for row in rows if row["group"] in ("p6", "p7")} == {"test"}
    assert len({row["split"] for row in rows if row["group"] == "p2"}) == 1
    assert len({row["sha256"] for row in rows}) == 31


def test_what_is_unchanged_in_a_bucket_is_not_read_again(
    shards: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from raylight.storage.packed import SourcePath

    first = build_index(find_images(packed(shards[0], "s3://shards/my set"), tmp_path), tmp_path, workers=2)
    monkeypatch.setattr(SourcePath, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
    again = build_index(find_images(packed(shards[0], "s3://shards/my set"), tmp_path), tmp_path, workers=2)
    assert again.table.equals(first.table)


@pytest.mark.long
def test_ray_decodes_shards_in_a_bucket(shards: tuple[str, Path], tmp_path: Path) -> None:
    index = build_index(find_images(packed(shards[0], "s3://shards/my set"), tmp_path), tmp_path, workers=2)
    ray, threads = (
        cached_images(
            index, SPEC, Engine(name, 2, RayConfig(object_store_gb=0.2)), tmp_path / name, lambda *_: None
        ).pixels
        for name in ("ray", "threads")
    )
    assert np.array_equal(ray, threads)
    assert len(ray) == 30
