"""What a run can be evaluated on: classes spelled otherwise, one class alone, tables, URIs."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import Result

from raylight.data.index import Index
from raylight.errors import ConfigError, DataError
from raylight.serving.labelled_images import _class_positions, parse_classes
from tests.trained_run import draw, move_images

Command = Callable[..., Result]


def test_classes_are_matched_whatever_their_case_and_unicode_form() -> None:
    found = _class_positions(("Caf\u00e9", "bar"), ("BAR", "Cafe\u0301"), "data", {})
    assert found == {"BAR": 1, "Cafe\u0301": 0}
    assert _class_positions(("cat", "dog"), ("Miez", "dog"), "data", {"miez": "CAT"}) == {"Miez": 0, "dog": 1}


@pytest.mark.parametrize(
    ("own", "theirs", "proposed"),
    [
        (("cat", "dog"), ("cats", "dogs"), "If cats is cat and dogs is dog: --classes cats=cat,dogs=dog."),
        (("boxes", "cat"), ("box", "cat"), "If box is boxes: --classes box=boxes."),
        (
            ("no finding", "mass"),
            ("No_Finding", "mass"),
            "If No_Finding is no finding: --classes No_Finding=no finding.",
        ),
        (("PNEUMONIA", "NORMAL"), ("pnuemonia", "normal"), "If pnuemonia is PNEUMONIA: --classes pnuemonia=PNEUMONIA."),
        (("cat", "dog"), ("cat", "zebra"), "Say which is which with --classes zebra=dog"),
    ],
)
def test_what_a_name_probably_means_is_proposed(own: tuple[str, ...], theirs: tuple[str, ...], proposed: str) -> None:
    with pytest.raises(DataError) as caught:
        _class_positions(own, theirs, "data", {})
    assert proposed in str(caught.value)
    command = proposed.partition("--classes ")[2].rstrip(".").partition(",  or")[0].partition(", or")[0]
    assert _class_positions(own, theirs, "data", parse_classes(command))  # and works


@pytest.mark.parametrize("text", ["", "cats", "cats=", "=cat", "a=b,c"])
def test_a_map_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="isn't THEIRS=OWN"):
        parse_classes(text)


def test_other_names_one_class_a_table_and_a_uri_can_be_evaluated(raylight: Command, run: Path, tmp_path: Path) -> None:
    for name in ("lefts", "rights"):
        (tmp_path / "foreign" / name).mkdir(parents=True)
        for path in draw(tmp_path / "drawn", name.removesuffix("s"), 6, 9):
            path.rename(tmp_path / "foreign" / name / path.name)
    refused = raylight("evaluate", run, "--data", tmp_path / "foreign")
    assert refused.exit_code == 2
    assert "--classes lefts=left,rights=right" in refused.stderr
    done = raylight(
        *("evaluate", run, "--data", (tmp_path / "foreign").as_uri(), "--classes", "lefts=left,rights=right"),
        *("--out", tmp_path / "mapped"),
    )
    assert done.exit_code == 0, done.output
    with (tmp_path / "mapped" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"].split("/")[0], row["label"]) for row in rows] == [("lefts", "left")] * 6 + [
        ("rights", "right")
    ] * 6
    whole = json.loads((tmp_path / "mapped" / "metrics.json").read_text())

    with (tmp_path / "table.csv").open("w", newline="") as file:
        csv.writer(file).writerows(
            [("path", "label"), *((f"foreign/{row['path']}", row["label"]) for row in rows if row["label"] == "left")]
        )
    one = raylight("evaluate", run, "--data", tmp_path / "table.csv", "--out", tmp_path / "one")
    assert one.exit_code == 0, one.output
    assert "There are no images of right: metrics that need all classes aren't defined" in one.stdout
    alone = json.loads((tmp_path / "one" / "metrics.json").read_text())
    hits = sum(row["predicted"] == "left" for row in rows if row["label"] == "left")
    assert alone["test/accuracy"]["value"] == pytest.approx(hits / 6)
    assert alone["test/accuracy"]["value"] == pytest.approx(whole["test/specificity"]["value"])
    assert alone["test/auroc"]["value"] is None

    unknown = raylight("evaluate", run, "--data", tmp_path / "foreign", "--classes", "lefts=middle")
    assert (unknown.exit_code, "--classes: the run has no class 'middle'; it has left, right" in unknown.stderr) == (
        2,
        True,
    )


def test_a_folder_without_images_is_refused_without_help_for_training(
    raylight: Command, run: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    done = raylight("evaluate", run, "--data", tmp_path / "empty")
    assert done.exit_code == 2
    assert f"--data: the folder {tmp_path / 'empty'} is empty." in done.stderr
    assert "data.root" not in done.stderr


def test_other_copies_of_learnt_pictures_are_left_out_by_name(
    raylight: Command, copied_run: Path, images: Path, tmp_path: Path
) -> None:
    foreign, learnt = tmp_path / "foreign", Index.read(copied_run / "index.parquet").in_split("train").column("path")
    for name in ("left", "right"):
        (foreign / name).mkdir(parents=True)
        for path in draw(tmp_path / "drawn", name, 6, 9):
            path.rename(foreign / name / path.name)
    for copy in ("copy.jpg", "copy of it.jpg"):
        with Image.open(images / learnt[0]) as picture:
            larger = picture.convert("RGB").resize((2 * picture.width, 2 * picture.height), Image.Resampling.BICUBIC)
        larger.save(foreign / Path(learnt[0]).parent.name / copy, quality=90)

    done = raylight("evaluate", copied_run, "--data", foreign, "--out", tmp_path / "out")

    assert done.exit_code == 0, done.output
    side = Path(learnt[0]).parent.name
    assert (
        "2 are left out as copies of its training or validation images: "
        f"{side}/copy of it.jpg (as {learnt[0]}), {side}/copy.jpg (as {learnt[0]})."
    ) in done.stdout
    with (tmp_path / "out" / "predictions.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 12

    move_images(copied_run, tmp_path / "gone")
    done = raylight("evaluate", copied_run, "--data", foreign)
    assert f"no longer in {tmp_path / 'gone'}: other copies of its training images aren't looked for." in done.stdout
