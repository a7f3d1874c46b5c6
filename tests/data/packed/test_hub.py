"""Data sets of the Hugging Face Hub, from a server that speaks its protocol, and without a connection."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from raylight.data.index import Index
from raylight.data.packed.hub import Hub
from raylight.errors import DataError
from tests.data.packed.hub_server import COMMIT, NAME, hub
from tests.data.packed.test_parquet import jpeg, save
from tests.forked import last_line

OFFLINE = {"HF_HUB_OFFLINE": "1"}
"""As without a network; nothing but what was downloaded before is used."""

SAY = """
import json, sys
from raylight.data.packed.hub import Hub
from raylight.errors import DataError
said = []
for settings in json.loads(sys.argv[1]):
    try:
        source = Hub(**settings)
        rows = source.entries().to_pylist()
        said.append([[*row.values(), len(source.read(row["key"]))] for row in rows])
    except DataError as error:
        said.append(str(error))
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Where the Hub is and where its downloads go, as environment variables; all are of this module alone."""
    folder = tmp_path_factory.mktemp("hub")
    images, labels = [jpeg(number) for number in range(40)], [number % 2 for number in range(40)]
    images[7] = images[7][:200]
    for name, part in (("train", slice(24)), ("validation", slice(24, 32)), ("test", slice(32, 40))):
        patients = [f"p{number // 4}" for number in range(40)][part]
        file = folder / "data" / f"{name}-00000-of-00001.parquet"
        save(file, images[part], labels[part], ["cat", "dog"], patient=patients)
    files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.parquet")}
    with hub({**files, "README.md": b"---\nlicense: mit\n---\n"}) as address:
        yield {"HF_ENDPOINT": address, "HF_HOME": str(folder / "downloads")}


@pytest.fixture(scope="module")
def answers(place: dict[str, str]) -> Callable[..., list[Any]]:
    """What a source of some settings each has, or says, in a process of its own: the library reads its environment once."""

    def answered(*settings: dict[str, Any], **environment: str) -> list[Any]:
        done = subprocess.run(
            [sys.executable, "-c", SAY, json.dumps(settings)],
            env={**os.environ, **place, **environment},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        found: list[Any] = json.loads(done.stdout)
        return found

    return answered


@pytest.fixture(scope="module")
def online(answers: Callable[..., list[Any]]) -> list[Any]:
    """With the Hub in reach: the data set, which is downloaded, and what is said of what isn't there."""
    settings = [{"group": "patient"}, {"name": "me/birds"}, {"revision": "v2"}, {"config": "large"}]
    return answers(*({"name": NAME, **some} for some in settings))


def test_a_data_set_is_what_its_page_has(online: list[Any]) -> None:
    rows, missing, revision, config = online
    assert len(rows) == 40
    key, label, group, split, _, size = rows[24 + 3]
    assert (key, label, group, split, size) == (
        "validation/00000003/photo3.jpg", "dog", "p6", "val", len(jpeg(27)),
    )  # fmt: skip
    assert [row[3] for row in rows] == ["train"] * 24 + ["val"] * 8 + ["test"] * 8
    assert missing.startswith("data.source.name=me/birds: Dataset 'me/birds' doesn't exist on the Hub")
    assert "need HF_TOKEN" in missing
    assert revision.startswith(f"data.source.name={NAME}: Revision 'v2' doesn't exist")
    assert config.endswith("'large' not found. Available: ['default']. Choose one with data.source.config=NAME")


def test_without_a_connection_what_was_downloaded_is_used(online: list[Any], answers: Callable[..., list[Any]]) -> None:
    same, pinned, other, missing = answers(
        {"name": NAME, "group": "patient"},
        {"name": NAME, "group": "patient", "revision": COMMIT},
        {"name": NAME, "revision": "0" * 40},
        {"name": "me/birds"},
        **OFFLINE,
    )
    assert same == pinned == online[0]
    assert f"Downloaded is {COMMIT}: use data.source.revision={COMMIT}, or connect" in other
    assert "Couldn't reach 'me/birds' on the Hub" in missing
    assert "hasn't been downloaded before. Check the name and the connection" in missing


@pytest.mark.long
def test_a_run_learns_from_it_and_records_its_revision(
    online: list[Any],
    place: dict[str, str],
    train: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    done = train(
        f"data.source.name={NAME}", "data.source.group=patient", "data.feed=stream", "model=cnn2", "model.image_size=32",
        "trainer.max_epochs=1", "trainer.batch_size=8", "trainer.threads=1", "trainer.precision='32'", "decode=threads",
        "report.enabled=false", "report.plots=false", "logger=csv", cwd=tmp_path, **place, **OFFLINE,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    run = last_line(done)
    assert run.parent.name == "pets-cnn2"
    assert f"{NAME}: revision {COMMIT} (pin it with data.source.revision={COMMIT})" in done.stdout
    assert "the source names the patient (or object) of 40 of 40 files: 10 patients" in done.stdout
    assert "train/00000007/photo7.jpg,the JPEG file ends" in (tmp_path / run / "rejected.csv").read_text()
    index = Index.read(tmp_path / run / "index.parquet")
    assert [len(index.in_split(split)) for split in ("train", "val", "test")] == [23, 8, 8]


@pytest.mark.long
def test_ray_decodes_it(
    online: list[Any],
    place: dict[str, str],
    train: Callable[..., subprocess.CompletedProcess[str]],
    tmp_path: Path,
) -> None:
    pixels = []
    for decode in ("ray", "threads"):
        cache = tmp_path / decode
        done = train(
            "data=hub", f"data.source.name={NAME}", f"decode={decode}", "model=cnn2", "model.image_size=32",
            "trainer.max_epochs=1", "trainer.batch_size=8", "trainer.threads=1", "trainer.precision='32'",
            "report.enabled=false", "report.plots=false", "logger=none", f"cache_dir={cache}", cwd=tmp_path, **place, **OFFLINE,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        pixels.append(
            sorted(file.read_bytes() for file in cache.rglob("*.npy") if file.stat().st_size > 39 * 32 * 32 * 3)
        )
    assert pixels[0] == pixels[1] != []


def loaded(**splits: dict[str, list[Any]]) -> dict[str, Any]:
    """Data sets as the library gives them, by split."""
    import datasets

    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    return {
        name: datasets.Dataset.from_dict(columns, features=datasets.Features(features))
        for name, columns in splits.items()
    }


@pytest.fixture
def of_splits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Hub]:
    def source(labels: dict[str, list[int]], **settings: Any) -> Hub:
        columns = {name: {"image": [b"x"] * len(some), "label": some} for name, some in labels.items()}
        monkeypatch.setattr(Hub, "_load", lambda _: loaded(**columns))
        return Hub(NAME, **settings)

    return source


def used(source: Hub) -> list[tuple[str, str | None]]:
    return [(row["key"].split("/")[0], row["split"]) for row in source.entries().to_pylist()]


def test_splits_are_kept_chosen_or_given_a_use(of_splits: Callable[..., Hub]) -> None:
    labels = {"train": [0], "extra": [1], "dev": [0]}
    assert used(of_splits({"full": [0], "more": [1]})) == [("full", None), ("more", None)]
    assert used(of_splits(labels, splits=["train", "dev"])) == [("train", "train"), ("dev", "val")]
    given = {"train": "train", "extra": "train", "dev": "test"}
    assert used(of_splits(labels, splits=given)) == [*given.items()]
    with pytest.raises(DataError, match=r"split 'extra' .* 'data.source.splits={train:train,extra:train,dev:val}'$"):
        of_splits(labels).entries()
    with pytest.raises(
        DataError, match=r"there is no split 'trian'; did you mean 'train'\?; its splits: train, extra, dev"
    ):
        of_splits(labels, splits=["trian"]).entries()
    with pytest.raises(DataError, match="isn't clear whether the split 'dev' is for train, val or test"):
        of_splits(labels, splits={"train": "train", "dev": "hold"}).entries()


def test_a_split_without_labels_is_named_with_the_setting_that_leaves_it_out(of_splits: Callable[..., Hub]) -> None:
    message = (
        rf"{NAME}, split test: row 0 has no label; leave this split out with data.source.splits=\[train,validation\]"
    )
    with pytest.raises(DataError, match=message):
        of_splits({"train": [0], "validation": [1], "test": [-1]}).entries()


def test_images_are_read_from_downloads_alone(
    of_splits: Callable[..., Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import datasets

    downloads = tmp_path / "downloads"
    for folder in (downloads, tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / "photo.jpg").write_bytes(b"content")
    (downloads / "link.jpg").symlink_to(tmp_path / "photo.jpg")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", downloads)
    paths = [downloads / "photo.jpg", tmp_path / "photo.jpg", downloads / "link.jpg"]
    images = [{"bytes": None, "path": str(path)} for path in paths]
    monkeypatch.setattr(Hub, "_load", lambda _: loaded(train={"image": images, "label": [0, 1, 0]}))
    source = Hub(NAME)
    keys = source.entries().column("key").to_pylist()
    assert source.read(keys[0]) == b"content"
    for key in keys[1:]:
        with pytest.raises(OSError, match="refers to a file that isn't part of it"):
            source.read(key)


@pytest.mark.parametrize(
    "name", [None, "", "/data/pets", "../pets", "a/b/c", "https://huggingface.co/datasets/me/pets"]
)
def test_what_is_no_name_is_refused_with_what_files_need(name: str | None) -> None:
    with pytest.raises(DataError, match=r"expected USER/NAME, .* data=parquet data.root=FOLDER"):
        Hub(name).entries()


def test_the_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"Install it with: .*\[hub\]'?$"):
        Hub(NAME).entries()
