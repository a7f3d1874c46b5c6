"""The files of a comparison: tables, the page, its pictures."""

import csv
from pathlib import Path
from shutil import which

import pytest
from typer.testing import CliRunner

from raylight.cli import app
from raylight.comparison.study import study_of
from raylight.comparison.study_files import write_study
from raylight.evaluation.caveats import CAVEATS


def test_the_files_show_the_images_that_only_one_gets_right(two: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["compare", *map(str, two), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "right on 7 more of 40 images" in done.output
    assert {path.name for path in out.iterdir()} == {
        "comparison.csv",
        "comparison.md",
        "comparison.tex",
        "comparison.html",
        "disagreements.csv",
        "accuracy_time.png",  # and no plot of parameters, which these runs have no weights to count
    }
    with (out / "disagreements.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert rows[0]["path"] == "cat/000.png"
    with (out / "comparison.csv").open() as file:
        metrics = {row["metric"]: row for row in csv.DictReader(file)}
    assert float(metrics["accuracy"]["difference"]) == pytest.approx(-7 / 40)
    assert metrics["accuracy"]["only_first_right"] == "8"
    page = (out / "comparison.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 9
    assert "dog/009.png" in page
    assert "http" not in page.replace("http-equiv", "")


def test_pictures_that_have_gone_are_counted_not_guessed(two: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "here" / "dog" / "009.png").unlink()
    page = write_study(study_of(two), tmp_path / "out")["comparison.html"].read_text()
    assert page.count("data:image/jpeg;base64,") == 8
    assert "1 pictures can" in page
    assert "the file can't be read any more" in page


def test_the_page_opens_alone_and_fits_a_phone(two: tuple[Path, Path], tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="install the dev extra for the browser test")
    browser = next((path for name in ("chromium", "chromium-browser", "google-chrome") if (path := which(name))), None)
    if browser is None:
        pytest.skip("install chromium (apt-get install chromium) for the browser test")
    page_file = write_study(study_of(two), tmp_path / "out")["comparison.html"]
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = chromium.new_page(viewport={"width": 390, "height": 800})
        said, asked = [], []
        page.on("console", lambda message: said.append(message.text))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(page_file.as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        assert page.evaluate("[...document.images].every(image => image.naturalWidth > 0 && image.alt)")
        assert page.evaluate("document.images.length") == 10
        chromium.close()
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]


def test_caveats_of_differences_stand_below_them_and_in_the_table(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = study_of(two)
    assert any(note.endswith(f"calibration error: {CAVEATS['conservative']}") for note in study.notes)
    assert any(note.endswith(CAVEATS["wide_difference"]) for note in study.notes)
    write_study(study, tmp_path / "out")
    with (tmp_path / "out" / "comparison.csv").open(newline="", encoding="utf-8") as file:
        caveats = {row["metric"]: row["caveat"] for row in csv.DictReader(file)}
    assert (caveats["ece"], caveats["f1"]) == ("conservative", "wide_difference")
    assert caveats["accuracy"] == ""
