"""``raylight evaluate``: the run's own numbers again, and honest ones on other folders."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import Result

from raylight.config.rules.metric_names import METRICS
from raylight.data.index import Index
from raylight.evaluation.intervals import wilson
from raylight.evaluation.metrics import Estimate
from raylight.serving.evaluate import shift
from tests.serving.test_predictor import edit_config
from tests.trained_run import draw, move_images

Command = Callable[..., Result]


def metrics(folder: Path) -> dict[str, Any]:
    return dict(json.loads((folder / "metrics.json").read_text()))


def assert_same_test(first: dict[str, Any], second: dict[str, Any]) -> None:
    for name in METRICS:
        one, other = first[f"test/{name}"], second[f"test/{name}"]
        assert one["n"] == other["n"]
        for part in ("value", "low", "high"):
            assert one[part] == pytest.approx(other[part], abs=1e-5), f"{name} {part}"


def test_a_second_look_gives_the_runs_numbers(raylight: Command, run: Path, tmp_path: Path) -> None:
    done = raylight("evaluate", run, "--out", tmp_path / "again")

    assert done.exit_code == 0, done.output
    assert "The same numbers as in the run's metrics.json." in done.stdout
    assert "shift" not in done.stdout
    again = metrics(tmp_path / "again")
    assert_same_test(again, metrics(run))
    assert again["provenance"]["test_files_sha256"] == metrics(run)["provenance"]["test_files_sha256"]
    with (run / "predictions.csv").open() as file, (tmp_path / "again" / "predictions.csv").open() as other:
        own = [row for row in csv.DictReader(file) if row["split"] == "test"]
        for one, two in zip(own, csv.DictReader(other), strict=True):
            assert [one[name] for name in ("path", "label", "predicted")] == [
                two[name] for name in ("path", "label", "predicted")
            ]


def test_every_further_look_at_test_is_counted(raylight: Command, copied_run: Path, tmp_path: Path) -> None:
    before, earlier = (copied_run / "metrics.json").read_bytes(), (copied_run / "looks.csv").read_text()

    again = raylight("evaluate", copied_run)
    draw(tmp_path / "foreign", "left", 4, 9)
    draw(tmp_path / "foreign", "right", 4, 9)
    raylight("evaluate", copied_run, "--data", tmp_path / "foreign")  # other images: no look at the run's own

    looks = (copied_run / "looks.csv").read_text()
    assert f"This was look {len(looks.splitlines()) - 1} at the run's test images" in again.stdout
    (added,) = looks.removeprefix(earlier).splitlines()
    assert (earlier.splitlines()[1].endswith(",train 2 epochs"), added.endswith(",evaluate")) == (True, True)
    assert (copied_run / "metrics.json").read_bytes() == before  # a finished result isn't edited


def test_moved_images_are_found_by_their_content(
    raylight: Command, copied_run: Path, images: Path, tmp_path: Path
) -> None:
    move_images(copied_run, tmp_path / "old-place")
    refused = raylight("evaluate", copied_run)
    assert refused.exit_code == 2
    assert f"no longer in {tmp_path / 'old-place'}" in refused.stderr
    assert "--data FOLDER" in refused.stderr

    shutil.copytree(images, tmp_path / "new-place")
    done = raylight("evaluate", copied_run, "--data", tmp_path / "new-place", "--out", tmp_path / "out")

    assert done.exit_code == 0, done.output
    index = Index.read(copied_run / "index.parquet")
    learnt = len(index.in_split("train")) + len(index.in_split("val"))
    assert f"{learnt} of them are left out" in done.stdout
    assert "broken.jpg: " in done.stderr
    assert "1 of 25 files can't be used and were left out." in done.stdout
    assert_same_test(metrics(tmp_path / "out"), metrics(copied_run))


def test_changed_test_images_are_not_judged_in_silence(
    raylight: Command, copied_run: Path, images: Path, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(images, tmp_path / "moved"))
    move_images(copied_run, moved)
    changed, gone, *_ = Index.read(copied_run / "index.parquet").in_split("test").column("path")
    shutil.copy(next((images / "left").glob("*.png")), moved / changed)
    (moved / gone).unlink()

    done = raylight("evaluate", copied_run)

    assert done.exit_code == 2
    assert "2 of the run's 24 test images" in done.stderr
    assert f"{changed}: changed since it was indexed" in done.stderr
    assert f"{gone}: can't be read" in done.stderr


def test_a_foreign_folder_is_set_beside_the_runs_own_test(raylight: Command, run: Path, tmp_path: Path) -> None:
    for name in ("LEFT", "Right"):
        draw(tmp_path / "foreign", name, 30, 9)

    done = raylight("evaluate", run, "--data", tmp_path / "foreign", "--out", tmp_path / "out")

    assert done.exit_code == 0, done.output
    assert "no test split: all 60 images are used" in done.stdout
    for heading in ("metric", "value", "95 % interval", "n", "run's own test", "shift"):
        assert heading in done.stdout
    assert "Accuracy is " in done.stdout
    assert "Calibration error is " in done.stdout
    new, own = metrics(tmp_path / "out"), metrics(run)
    assert new["test/accuracy"]["n"] == 60
    for name in ("accuracy", "ece", "auroc"):
        assert new[f"run_test/{name}"] == own[f"test/{name}"]
        change = new[f"shift/{name}"]
        assert change["value"] == pytest.approx(new[f"test/{name}"]["value"] - own[f"test/{name}"]["value"])
        assert change["low"] <= change["value"] <= change["high"]
    with (tmp_path / "out" / "predictions.csv").open() as file:
        table = list(csv.DictReader(file))
    assert {row["label"] for row in table} == {"left", "right"}
    right = np.mean([row["label"] == row["predicted"] for row in table])
    assert right == pytest.approx(new["test/accuracy"]["value"])


def test_a_shipped_test_split_alone_is_judged(raylight: Command, run: Path, tmp_path: Path) -> None:
    for split, count in (("train", 7), ("test", 5)):
        for name in ("left", "right"):
            draw(tmp_path / "foreign" / split, name, count, count)

    done = raylight("evaluate", run, "--data", tmp_path / "foreign")

    assert done.exit_code == 0, done.output
    assert "ships a test split: only its 10 images are used" in done.stdout


def test_images_that_the_run_learnt_from_are_no_test(
    raylight: Command, run: Path, images: Path, tmp_path: Path
) -> None:
    for path in Index.read(run / "index.parquet").in_split("train").column("path"):
        (tmp_path / "train" / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images / path, tmp_path / "train" / path)

    done = raylight("evaluate", run, "--data", tmp_path / "train")

    assert done.exit_code == 2
    assert "none is left to evaluate on" in done.stderr


@pytest.mark.parametrize(
    ("classes", "sentence"),
    [
        (
            ("left", "middle", "right"),
            "has middle, which the run doesn't have; the run's classes are left, right. Say which is which",
        ),
        (
            ("left", "wrong"),
            "has wrong, which the run doesn't have, and no right; the run's classes are left, right. Say which is which with "
            "--classes wrong=right",
        ),
    ],
)
def test_other_classes_are_refused(
    raylight: Command, run: Path, tmp_path: Path, classes: tuple[str, ...], sentence: str
) -> None:
    for name in classes:
        draw(tmp_path / "foreign", name, 2, 3)

    done = raylight("evaluate", run, "--data", tmp_path / "foreign")

    assert done.exit_code == 2
    assert sentence in done.stderr


def test_a_folder_that_is_not_there_is_a_sentence(raylight: Command, run: Path, tmp_path: Path) -> None:
    done = raylight("evaluate", run, "--data", tmp_path / "nowhere")

    assert done.exit_code == 2
    assert f"there is no folder or table {tmp_path / 'nowhere'}" in done.stderr


def test_a_runs_own_results_are_never_overwritten(raylight: Command, copied_run: Path) -> None:
    before = (copied_run / "metrics.json").read_bytes()

    done = raylight("evaluate", copied_run, "--out", copied_run)

    assert done.exit_code == 2
    assert "is a run folder, whose own results would be overwritten" in done.stderr
    assert (copied_run / "metrics.json").read_bytes() == before


def test_the_interval_of_a_shift_is_newcombes() -> None:
    """His example of two independent proportions, 56 of 70 and 48 of 80: 0.0524 to 0.3339 (1998, method 10)."""

    def estimate(hits: int, n: int) -> Estimate:
        return Estimate(hits / n, *wilson(hits, n), n, "Wilson")

    change = shift(estimate(56, 70), estimate(48, 80))

    assert change.value == pytest.approx(0.2)
    assert change.interval == pytest.approx((0.0524, 0.3339), abs=5e-5)


def test_where_no_file_can_be_used_each_is_named_with_its_reason(
    raylight: Command, copied_run: Path, tmp_path: Path
) -> None:
    for label in ("left", "right"):
        (tmp_path / "foreign" / label).mkdir(parents=True)
        (tmp_path / "foreign" / label / "cut.png").write_bytes(b"no image")
    done = raylight("evaluate", copied_run, "--data", tmp_path / "foreign")
    assert done.exit_code == 2
    for label in ("left", "right"):
        assert f"{label}/cut.png: not a whole image of an accepted format" in done.stderr
    assert "None of the 2 images in" in done.stderr


def test_unlabelled_images_sharpen_the_accuracy_of_a_new_site(raylight: Command, run: Path, tmp_path: Path) -> None:
    for name in ("left", "right"):
        draw(tmp_path / "few", name, 4, 9)
        draw(tmp_path / "many", name, 20, 10)
    (tmp_path / "many" / "left" / "broken.png").write_bytes(b"nothing")
    out = tmp_path / "out"
    done = raylight("evaluate", run, "--data", tmp_path / "few", "--unlabelled", tmp_path / "many", "--out", out)
    assert done.exit_code == 0, done.output
    assert "broken.png: " in done.stderr
    assert "With 40 unlabelled images, accuracy " in done.stdout
    powered = json.loads((out / "metrics.json").read_text())["prediction_powered"]
    assert (powered["n_labelled"], powered["n_unlabelled"]) == (8, 40)
    assert powered["alone"] == json.loads((out / "metrics.json").read_text())["test/accuracy"]["value"]
    refused = raylight("evaluate", run, "--unlabelled", tmp_path / "many")
    assert (
        refused.exit_code,
        "--unlabelled: needs --data, labelled images from the same source" in refused.stderr,
    ) == (2, True)
    (tmp_path / "empty").mkdir()
    refused = raylight("evaluate", run, "--data", tmp_path / "few", "--unlabelled", tmp_path / "empty")
    assert (refused.exit_code, "has 0 usable images" in refused.stderr) == (2, True)


def test_subgroups_that_the_run_asks_for_are_judged_as_far_as_the_table_has_them(
    raylight: Command, copied_run: Path, tmp_path: Path
) -> None:
    edit_config(copied_run, "report.subgroups", {"sex": [], "site": []})
    rows = ["path,label,sex"]
    for name in ("left", "right"):
        rows += [f"{p.relative_to(tmp_path)},{name},{'FM'[i % 2]}" for i, p in enumerate(draw(tmp_path, name, 44, 9))]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    done = raylight("evaluate", copied_run, "--data", tmp_path / "t.csv", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Without subgroups by site: no table says that of these images." in done.stdout
    with (tmp_path / "out" / "subgroups.csv").open(newline="") as file:
        women, men = csv.DictReader(file)
    assert [(row["subgroup"], row["n"], row["positives"]) for row in (women, men)] == [
        ("F", "44", "22"),
        ("M", "44", "22"),
    ]
    whole = metrics(tmp_path / "out")["test/accuracy"]["value"]
    assert (float(women["accuracy"]) + float(men["accuracy"])) / 2 == pytest.approx(whole)
    assert float(women["accuracy_gap"]) == pytest.approx(float(women["accuracy"]) - float(men["accuracy"]))
