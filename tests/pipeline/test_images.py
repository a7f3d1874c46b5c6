"""What the settings leave no images for is refused before images are read, or before they are decoded."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from raylight.config.schema import DataConfig, DecodeConfig, ModelConfig, RunConfig, TrainerConfig
from raylight.data.cache_building import find
from raylight.errors import ConfigError, DataError
from raylight.models.preprocessing import Preprocessing
from raylight.pipeline.images import Images, decode_engine, decoded, indexed, resolution_of
from raylight.runs.run_dir import RunDir
from raylight.storage.tables import csv_text
from tests.trained_run import draw


def settings(root: Path, batch_size: int = 4, head: str = "softmax", **data: Any) -> RunConfig:
    return RunConfig(
        data=DataConfig(root=str(root), **data),
        decode=DecodeConfig(engine="threads"),
        model=ModelConfig(head=head),
        trainer=TrainerConfig(batch_size=batch_size),
    )


def test_a_share_of_nothing_is_refused_before_any_image_is_read(tmp_path: Path) -> None:
    for label in ("left", "right"):
        draw(tmp_path / "photos", label, 10, 1)
    for share in ("val_fraction", "test_fraction"):
        with pytest.raises(DataError, match=f"data.{share}=0: there would be no images to"):
            indexed(settings(tmp_path / "photos", **{share: 0.0}), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_what_does_not_fit_the_number_of_images_or_classes_is_refused_once_they_are_split(tmp_path: Path) -> None:
    for label in ("left", "right", "top"):
        draw(tmp_path / "photos", label, 10, 1)
    with pytest.raises(ConfigError, match=r"trainer.batch_size: 25 is larger than the 24 training images"):
        indexed(settings(tmp_path / "photos", batch_size=25), tmp_path / "cache")
    with pytest.raises(ConfigError, match=r"model.head: sigmoid needs two classes, the data has 3"):
        indexed(settings(tmp_path / "photos", head="sigmoid"), tmp_path / "cache")
    assert len(indexed(settings(tmp_path / "photos", batch_size=24), tmp_path / "cache").in_split("train")) == 24


def test_images_of_one_patient_or_picture_are_linked(tmp_path: Path) -> None:
    first, *_ = draw(tmp_path / "photos", "left", 8, 1)
    draw(tmp_path / "photos", "right", 8, 1)
    Image.open(first).save(first.with_name("copy.bmp"))  # other bytes, the same picture
    index = indexed(settings(tmp_path / "photos"), tmp_path / "cache")
    split = ["val" if path == "left/1-7.png" else "train" for path in index.column("path")]
    patients = ["A" if path in ("left/1-1.png", "right/1-1.png") else None for path in index.column("path")]
    nothing: Any = None
    images = Images(index.with_column("split", split).with_column("group", patients), nothing, nothing)
    paths = images.index.in_split("train").column("path").tolist()
    for duplicates, groups in ((True, [["left/1-0.png", "left/copy.bmp"]]), (False, [])):
        numbers = images.linked("train", duplicates).tolist()
        assert len(numbers) == len(paths) == 16
        together = {n: [path for path, number in zip(paths, numbers, strict=True) if number == n] for n in numbers}
        assert [each for each in together.values() if len(each) > 1] == [*groups, ["left/1-1.png", "right/1-1.png"]]


def test_subgroups_by_a_column_that_is_not_there_are_refused_before_anything_is_decoded(tmp_path: Path) -> None:
    for label in ("left", "right"):
        draw(tmp_path / "photos", label, 10, 1)
    config = settings(tmp_path / "photos")
    config.report.subgroups = {"sex": []}
    with pytest.raises(DataError, match=r"report.subgroups.sex: the data has no column 'sex'; it has format, height"):
        indexed(config, tmp_path / "cache")


def test_splits_of_another_size_than_asked_for_are_noted_for_the_report(tmp_path: Path) -> None:
    for label in ("left", "right"):
        draw(tmp_path / "photos", label, 5, 1)
    index = indexed(settings(tmp_path / "photos", batch_size=2), tmp_path / "cache")
    assert [line.split(",")[0] for line in index.split_warnings] == [
        "val is 20% of the images",
        "test is 20% of the images",
    ]


def test_ray_decodes_many_images_or_where_a_cluster_is_and_threads_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    run = RunConfig()
    assert [decode_engine(run, images) for images in (1, 19_999, 20_000)] == ["threads", "threads", "ray"]
    run.ray.address = "local"
    assert decode_engine(run, 5) == "threads"
    run.ray.address = "auto"
    assert decode_engine(run, 5) == "ray"
    run.ray.address = None
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert decode_engine(run, 5) == "ray"
    run.data.feed, run.trainer.launcher = "stream", "processes"  # each decodes its own share
    assert decode_engine(run, 10**6) == "threads"
    for engine in ("ray", "threads"):
        run.decode.engine = engine
        assert decode_engine(run, 5) == engine


def test_what_the_test_images_can_tell_is_said_before_any_work(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for label in ("left", "right"):
        draw(tmp_path / "photos", label, 10, 1)
    with caplog.at_level("INFO"):
        index = indexed(settings(tmp_path / "photos", test_fraction=0.4, batch_size=2), tmp_path / "cache")
    assert resolution_of(index) in caplog.messages
    assert resolution_of(index).startswith("8 test images measure an accuracy of 0.90 to ±")
    grouped = index.with_column("group", ["one"] * len(index))
    assert resolution_of(grouped).startswith("1 test groups of images")


@pytest.mark.parametrize(("feed", "caches"), [("stream", 0), ("cache", 1)])
def test_images_that_are_indexed_for_the_first_time_are_decoded_in_the_same_pass(
    feed: str, caches: int, tmp_path: Path
) -> None:
    """At the size of the network, unless they are decoded in each epoch."""
    for label in ("left", "right"):
        draw(tmp_path / "photos", label, 10, 1)
    config = settings(tmp_path / "photos", feed=feed)
    index = indexed(config, tmp_path / "cache")
    folders = [path for path in (tmp_path / "cache").glob("images/*") if path.is_dir()]
    assert len(folders) == caches
    spec = Preprocessing.from_config(config.model).decode_spec
    assert all(find(folder, sorted(set(index.column("sha256"))), spec)[0] for folder in folders)


@pytest.mark.parametrize(
    ("column", "value", "positive", "message"),
    [
        ("label", "right", None, r"^1 of the images in .*, or their labels, .* began \('left/1-0\.png'\)\. Continuing"),
        ("group", "p2", None, r"^1 of the images in .*, or their labels, .* began \('left/1-0\.png'\)\. Continuing"),
        (
            "label",
            "ear",
            None,
            r"The classes of .*run: \('left', 'right'\) when it began, \('ear', 'left', 'right'\) now",
        ),
        (
            "label",
            "left",
            "left",
            r"^The positive class of .*run: 'right' when it began, 'left' now\. Continuing would",
        ),
    ],
)
def test_a_run_whose_labels_groups_or_classes_have_changed_is_not_resumed(
    column: str, value: str, positive: str | None, message: str, tmp_path: Path
) -> None:
    files = [draw(tmp_path / "photos", label, 4, 1) for label in ("left", "right")]
    rows = [
        {"path": f"{file.parent.name}/{file.name}", "label": file.parent.name, "group": "p1", "split": split}
        for some in files
        for file, split in zip(some, ("train", "train", "val", "test"), strict=True)
    ]
    table, run = tmp_path / "photos" / "t.csv", RunDir.claim(tmp_path / "run")

    def begin(positive: str | None = None) -> None:
        table.write_text(csv_text(rows, ("path", "label", "group", "split")))
        config = settings(tmp_path / "photos", batch_size=2, csv=str(table), positive_class=positive)
        decoded(config, run, indexed(config, tmp_path / "cache"), tmp_path / "cache")

    begin()
    (run.folder("checkpoints") / "last.ckpt").touch()
    begin()  # nothing has changed
    rows[0][column] = value
    with pytest.raises(DataError, match=message):
        begin(positive)
