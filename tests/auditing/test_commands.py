"""``raylight audit`` from the command line: folders and options; what it exits with."""

import json
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from tests.auditing.test_files import clean, draw

Command = Callable[..., Result]


def test_a_clean_folder_exits_with_0(raylight: Command, tmp_path: Path) -> None:
    done = raylight("audit", clean(tmp_path / "pets"), "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert "Audit of 24 images: nothing found." in done.stdout
    assert "pets: nothing found" in (tmp_path / "out/audit.html").read_text()
    assert json.loads((tmp_path / "out/audit.json").read_text())["clean"] is True


def test_findings_exit_with_1_and_settings_of_the_data_count(raylight: Command, tmp_path: Path) -> None:
    root = clean(tmp_path / "pets")
    draw(root / "train/dog/p7-a.png", 71)
    draw(root / "test/dog/p7-b.png", 72)
    assert raylight("audit", root).exit_code == 0
    done = raylight("audit", "data=folder", f"data.root={root}", r"data.group_pattern='^(p\d+)-'")
    assert done.exit_code == 1, done.output
    assert "  problem: 1 patient (or object) is in more than one of train and test." in done.stdout


def test_too_many_bad_files_exit_with_2_after_the_page_is_written(raylight: Command, tmp_path: Path) -> None:
    root = clean(tmp_path / "pets")
    for i in range(4):
        (root / f"train/cat/empty{i}.jpg").touch()
    done = raylight("audit", root, "--out", tmp_path / "out")
    assert done.exit_code == 2
    assert "4 of 28 files" in done.stderr
    assert "warning: 4 files of 0 bytes" in done.stdout
    assert (tmp_path / "out/audit.html").is_file()


def test_mistakes_are_sentences(raylight: Command, tmp_path: Path, run: Path) -> None:
    for arguments, words in (
        ([tmp_path / "nowhere"], "there is no such folder; expected a folder of images, a run folder, or data=NAME"),
        (["data=demoo"], "did you mean 'demo'?"),
        (["model=cnn2"], "expected data=NAME"),
        ([tmp_path, "model=cnn2"], "an audit takes settings of the data only"),
        ([tmp_path], "fits no layout"),
        ([run, "data.limit=3"], "a run is audited as it was trained"),
    ):
        (tmp_path / "a").mkdir(exist_ok=True)
        done = raylight("audit", *arguments)
        assert done.exit_code == 2, (arguments, done.output)
        assert words in done.stderr
