import json
import logging
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raylight.report.caveats import caveats_of
from raylight.report.facts import RunFacts
from raylight.report.images import Gallery
from raylight.report.run_page import render_report, write_report
from tests.finished_run import NASTY_NAME, NASTY_NOTE, FinishedRun
from tests.report.page_reader import SECTIONS, Page


def test_the_page_tells_what_the_folder_holds(finished):
    page = Page(write_report(finished.run, finished.network))
    assert list(page.sections)[1:] == SECTIONS
    assert "couldn't be rendered" not in page.text
    metrics = json.loads((finished.run / "metrics.json").read_text())
    accuracy = metrics["test/accuracy"]
    right = round(accuracy["value"] * 16)
    summary = page.section("summary")
    assert f"{100 * accuracy['value']:.1f} %" in summary
    assert f"{right} of 16 test images correct; 95 % interval {100 * accuracy['low']:.1f} to" in summary
    assert "The checkpoint comes from the last epoch" in summary
    assert "Checkpoint of epoch 3 of 3, chosen by" in summary
    for name, label in (("auroc", "AUROC"), ("mcc", "Matthews correlation"), ("brier", "Brier score")):
        cell = metrics[f"test/{name}"]
        assert f"{cell['value']:.3f} {cell['low']:.3f}–{cell['high']:.3f} {cell['n']}" in page.row(label)
    data = page.section("data")
    assert "49 files in animals: 16 to train, 16 for validation, 16 for test, 1 unusable" in data
    assert "not a whole image" in page.row("train/cat/broken.jpg")
    assert "Width 40 to 45 pixels" in data
    assert page.row("loss 0.500") == "loss 0.500 0.520 +0.020"
    assert page.row("accuracy 0.900") == "accuracy 0.900 0.750 -0.150"
    assert "Accuracy is 15 points higher on training images" in summary
    cost = page.section("cost")
    assert "1 min 15 s from the command" in cost
    assert "32 training images per second within the 3 epochs" in cost
    assert "1.2 GB of memory" in cost
    provenance = page.section("provenance")
    assert f"python train.py --config-path {finished.run.path} --config-name config" in provenance
    assert metrics["provenance"]["test_files_sha256"] in provenance


def test_names_and_notes_are_shown_harmlessly(finished):
    page = Page(write_report(finished.run, finished.network))
    assert NASTY_NOTE in page.section("asked")
    assert any(NASTY_NAME in alt for alt in page.alts if alt)
    assert NASTY_NAME not in page.html
    assert not [tag for tag, _ in page.elements if tag in ("script", "iframe", "object", "embed")]
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert all(attributes["src"].startswith("data:image/") for tag, attributes in page.elements if tag == "img")


def test_the_page_is_one_small_file_that_may_load_nothing(finished):
    path = write_report(finished.run, finished.network)
    page = Page(path)
    assert path.stat().st_size < 3e6
    policy = next(a["content"] for tag, a in page.elements if tag == "meta" and "http-equiv" in a)
    assert policy.startswith("default-src 'none'")
    links = [a.get("href") for _, a in page.elements if "href" in a]
    assert all(link.startswith(("#", "data:")) for link in links)
    assert page.alts
    assert all(page.alts)
    assert all(attributes.get("width") for tag, attributes in page.elements if tag == "img")


@pytest.mark.parametrize(
    ("broken", "lost", "words"),
    [
        ("history.csv", {"summary", "training", "cost"}, "could not convert string to float"),
        ("environment.json", {"cost", "provenance"}, "environment.json can't be read"),
        ("index.parquet", {"summary", "data", "images", "cost", "provenance"}, "isn't an index"),
        ("predictions.csv", {"summary", "result", "images"}, "isn't a table of predictions"),
    ],
)
def test_a_broken_file_costs_only_the_sections_that_need_it(finished, broken, lost, words, caplog, monkeypatch):
    (finished.run / broken).write_text("epoch,train/loss\nx,broken\n")
    monkeypatch.setattr(logging.getLogger("raylight"), "propagate", True)
    page = Page(write_report(finished.run, finished.network))
    gone = {name for name in SECTIONS if "This section couldn't be rendered" in page.section(name)}
    assert gone == lost
    assert words in page.text
    assert any("section" in record.message and words in record.message for record in caplog.records)


def test_medical_data_bears_a_banner_in_page_and_card(finished):
    assert "Research only" not in Page(write_report(finished.run)).text
    assert "Research only" not in (finished.run / "model_card.md").read_text()
    config = OmegaConf.load(finished.run / "config.yaml")
    config.data.medical = True
    finished.run.write_text("config.yaml", OmegaConf.to_yaml(config))
    assert "Research only. This model is not a medical device" in Page(write_report(finished.run)).text
    card = (finished.run / "model_card.md").read_text()
    assert "> **Research only.**" in card
    assert "any decision about a patient" in card


def test_a_folder_that_holds_nothing_still_gives_a_page(tmp_path):
    from raylight.runs.run_dir import RunDir

    page = Page(write_report(RunDir(tmp_path)))
    assert page.text.count("This section couldn't be rendered") == len(SECTIONS)
    assert "Research only" in page.text
    assert not Path(tmp_path / "model_card.md").exists()


def test_the_report_tells_of_leakage_audit_and_shortcuts(finished: FinishedRun) -> None:
    run = finished.run
    metrics = run.read_json("metrics.json")
    metrics |= {
        name.replace("test/", "test_unshared/"): cell for name, cell in metrics.items() if name.startswith("test/")
    }
    files = [{"path": "test/cat/1.png", "partner": "train/cat/2.png", "why": "patient", "detail": "<p7>"}]
    run.write_json("metrics.json", metrics | {"leakage": {"test_files_shared": 1, "files": files}})
    finding = {"severity": "problem", "title": "T", "sentence": "The label shows.", "files": [["a", "b"]], "count": 1}
    run.write_json("audit.json", {"findings": [finding]})
    check = {
        "name": "real",
        "title": "as they are",
        "value": 0.9,
        "low": 0.8,
        "high": 0.95,
        "n": 16,
        "suspicious": True,
    }
    black = check | {"name": "centre_black", "title": "middle black", "sentence": "What lies outside gives it away."}
    heat = check | {"name": "gradcam_border", "sentence": "30 % of the evidence."}
    found = {"real": check | {"sentence": ""}, "checks": [black, heat], "chance": 0.5, "note": ""}
    run.write_json("shortcuts.json", found)

    page = render_report(Gallery(RunFacts(run)))

    assert "couldn&#39;t be made" not in page
    assert "couldn't be rendered" not in page
    for words in ("Without images shared with training", "patient &lt;p7&gt;", "The label shows.", "Shortcuts",
                  "What lies outside gives it away.", "30 % of the evidence."):  # fmt: skip
        assert words in page
    assert any(
        "that is also in train or validation; without them accuracy is" in note for note in caveats_of(RunFacts(run))
    )


CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM.exists():
        pytest.skip("looking at pages needs a browser: install the Debian package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield chromium
        chromium.close()


def opened(browser, path, width, scheme="light"):
    """The page, and what it said and asked for while it was loaded."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    complaints, requests = [], []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto(path.as_uri(), wait_until="load")
    return page, complaints, [url for url in requests if not url.startswith("data:")]


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark"), (320, "light")])
def test_the_page_stands_alone_and_fits(browser, finished, width, scheme):
    path = write_report(finished.run, finished.network)
    page, complaints, requests = opened(browser, path, width, scheme)
    assert complaints == []
    assert requests == [path.as_uri()]
    assert page.title() == "cnn2 on animals · run report"  # not "owned"
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    sizes = page.evaluate(
        """() => [...document.querySelectorAll('img, svg')].map(
            e => [e.getBoundingClientRect().width, e.getBoundingClientRect().height, e.naturalWidth ?? 1])"""
    )
    assert len(sizes) > 20
    assert all(shown_width > 40 and height > 40 and loaded > 0 for shown_width, height, loaded in sizes)
    page.close()


def test_ink_and_paper_contrast_in_both_schemes(browser, finished):
    path = write_report(finished.run)
    for scheme in ("light", "dark"):
        page, _, _ = opened(browser, path, 800, scheme)
        paper, *inks = page.evaluate(
            """() => [getComputedStyle(document.body).backgroundColor,
                ...['h2', 'p', 'td', '.soft', 'nav a', 'figcaption', '.chip'].map(
                    s => getComputedStyle(document.querySelector(s)).color)]"""
        )
        assert (luminance(paper) > 0.9) == (scheme == "light")
        for ink in inks[:-1]:
            light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (scheme, ink)  # WCAG AA
        assert luminance(inks[-1]) > 0.9  # on a dark chip over the picture
        page.close()


def luminance(colour):
    """Relative luminance of a CSS ``rgb(...)`` (WCAG 2.2)."""
    channels = [int(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_printed_on_white_without_the_navigation(browser, finished):
    page, _, _ = opened(browser, write_report(finished.run), 800, "dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    page.close()


def test_the_test_metrics_are_a_table_for_latex_too(finished):
    write_report(finished.run)
    table = (finished.run / "metrics.tex").read_text(encoding="utf-8")
    accuracy = finished.run.read_json("metrics.json")["test/accuracy"]
    value, low, high = (f"{accuracy[name]:.3f}" for name in ("value", "low", "high"))
    assert rf"accuracy & {value} & {low} to {high} & 16 \\" in table.splitlines()
    assert "16 test images" in table
