"""``raylight predict``: the numbers of the run, every bad file named, and exit codes that scripts can trust."""

import csv
import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import Result

from raylight.evaluation.predictions import read_csv

Command = Callable[..., Result]


def rows(text: str) -> dict[str, dict[str, str]]:
    return {row["path"]: row for row in csv.DictReader(io.StringIO(text))}


def test_raw_files_and_the_training_pipeline_agree(raylight: Command, run: Path, images: Path, tmp_path: Path) -> None:
    table = read_csv(run / "predictions.csv")
    with (run / "predictions.csv").open(newline="") as file:
        decided = {row["path"]: row["predicted"] for row in csv.DictReader(file)}

    done = raylight("predict", run, *(images / path for path in table.paths), "--out", tmp_path / "p.csv")

    assert done.exit_code == 0, done.output
    given = rows((tmp_path / "p.csv").read_text())
    assert len(given) == len(table) > 30
    assert {"val", "test"} == set(table.splits)
    for path, probabilities in zip(table.paths, table.probabilities, strict=True):
        row = given[str(images / path)]
        np.testing.assert_allclose([float(row["p_left"]), float(row["p_right"])], probabilities, rtol=0, atol=1e-4)
        assert row["predicted"] == decided[path]


def test_folders_are_searched_and_only_images_in_them_count(
    raylight: Command, run: Path, images: Path, tmp_path: Path
) -> None:
    deep = tmp_path / "photos" / "2024" / "July"
    deep.mkdir(parents=True)
    picture = next((images / "left").glob("*.png")).read_bytes()
    for name in ("b [bold].png", "a,b.PNG", "Thumbs.db", ".hidden.png"):
        (deep / name).write_bytes(picture)
    (deep.parent / "first.png").write_bytes(picture)

    done = raylight("predict", run, tmp_path / "photos")

    assert done.exit_code == 0
    assert done.stderr == f"1 file ignored, such as '{deep}/Thumbs.db': .db isn't a supported image format.\n"
    assert list(rows(done.stdout)) == [
        str(deep.parent / "first.png"),
        str(deep / "a,b.PNG"),
        str(deep / "b [bold].png"),
    ]


def test_a_named_file_is_read_whatever_it_is_called(raylight: Command, run: Path, images: Path, tmp_path: Path) -> None:
    (tmp_path / "upload").write_bytes(next((images / "left").glob("*.jpg")).read_bytes())

    done = raylight("predict", run, tmp_path / "upload")

    assert done.exit_code == 0
    assert rows(done.stdout)[str(tmp_path / "upload")]["predicted"] in ("left", "right")


def test_bad_files_are_named_skipped_and_end_in_1(run: Path, images: Path, tmp_path: Path) -> None:
    """As a process, since scripts see exit codes and the two streams."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "photo.JXL").touch()
    arguments = [images / "right", tmp_path / "nowhere.png", tmp_path / "empty"]
    done = subprocess.run(
        [sys.executable, "-c", "from raylight.cli import main; main()", "predict", run, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    complaints = done.stderr.splitlines()
    assert f"{tmp_path / 'nowhere.png'}: there is no such file or folder" in complaints
    assert f"{tmp_path / 'empty'}: no image files in this folder" in complaints
    assert any(line.startswith(f"{images / 'right' / 'broken.jpg'}: ") for line in complaints)
    assert f"1 file ignored, such as '{tmp_path}/empty/photo.JXL': .jxl isn't a supported image format" in done.stderr
    assert len(complaints) == 4
    assert len(rows(done.stdout)) == 40


def test_the_file_appears_whole_or_not_at_all(raylight: Command, run: Path, images: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "table.csv"
    picture = next((images / "left").glob("*.jpg"))

    done = raylight("predict", run, picture, tmp_path / "gone.jpg", "--out", out)

    assert done.exit_code == 1
    assert "1 predicted, 1 failed" in done.stdout
    assert list(rows(out.read_text())) == [str(picture)]
    assert [path.name for path in out.parent.iterdir()] == ["table.csv"]

    (tmp_path / "taken").mkdir()
    refused = raylight("predict", run, picture, "--out", tmp_path / "taken")
    assert refused.exit_code == 2
    assert "is a folder; name a file" in refused.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "taken"]


def test_a_terminal_gets_a_table(
    run: Path, images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from raylight.serving.predict import predict_images

    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "300")
    assert predict_images(run, [images / "left"], None) == 0

    lines = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out).splitlines()
    assert lines[0].split() == ["predicted", "p_left", "p_right", "path"]
    assert len(lines) == 41, "a heading and a line an image, however many blocks"
    assert {line.index("1-") for line in lines if "/1-" in line} == {lines[1].index("1-")}, "columns line up"


def test_what_is_no_run_ends_in_2(raylight: Command, tmp_path: Path) -> None:
    done = raylight("predict", tmp_path, tmp_path)

    assert done.exit_code == 2
    assert "is not a run folder" in done.stderr


def test_a_run_that_abstains_leaves_out_what_it_is_not_sure_of(
    raylight: Command, copied_run: Path, images: Path
) -> None:
    table = read_csv(copied_run / "predictions.csv")
    sure = np.sort(table.probabilities.max(axis=1))
    limit = float((sure[3] + sure[4]) / 2)
    facts = json.loads((copied_run / "preprocessing.json").read_text())
    assert "abstain" not in facts
    for abstain, unanswered in ((limit, 4), (None, len(table))):
        (copied_run / "preprocessing.json").write_text(json.dumps(facts | {"abstain": abstain}))
        done = raylight("predict", copied_run, *(images / path for path in table.paths))
        assert done.exit_code == 0
        given = rows(done.stdout)
        assert sum(row["predicted"] == "" for row in given.values()) == unanswered
        for row in given.values():
            unsure = abstain is None or max(float(row["p_left"]), float(row["p_right"])) < limit
            assert (row["predicted"] == "", row["refused"]) == (unsure, "not sure" if unsure else "")
