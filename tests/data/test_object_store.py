"""Images in a bucket, behind a server that speaks S3, are indexed, decoded and learnt from where they are."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raylight.data.index import Index
from raylight.errors import DataError
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
