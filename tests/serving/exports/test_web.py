"""The page in a real browser, opened from disk: it decides as ``raylight predict`` and connects to nothing."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raylight.data.decode.image import decode_image
from raylight.errors import RaylightError
from raylight.evaluation.abstention import confidence_of
from raylight.models.familiarity import Familiarity, distances, unit_vectors
from raylight.serving.exports.command import export_run
from raylight.serving.exports.web import model_of_page, write_page
from raylight.serving.exports.web_runtime import WebRuntime, cache_folder, web_runtime
from raylight.serving.predict import predictions_of
from raylight.serving.predictor import Predictor

CHROMIUM = Path("/usr/bin/chromium")
FACTS: dict[str, Any] = {
    "class_names": ["</script><b>bad</b>", "good"],
    "positive_class": "good",
    "threshold": 0.25,
    "temperature": 1.0,
    "run": "a-run",
    "title": "tiny on drawings",
    "accuracy": {"value": 0.9, "low": 0.8, "high": 0.95, "n": 60},
    "medical": True,
}


def test_the_page_holds_the_model_and_says_what_it_is(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_page(b"an ONNX file", FACTS, WebRuntime("1.2.3", b"script", b"binary"), page)
    assert model_of_page(page) == b"an ONNX file"
    text = page.read_text()
    assert "accuracy on 60 test images 0.900, 95&nbsp;% interval 0.800 to 0.950" in text
    assert "For research only." in text
    assert "good is predicted above the threshold of 0.25" in text
    assert "connect-src &#39;none&#39;" in text or "connect-src 'none'" in text
    assert "<b>bad</b>" not in text
    (tmp_path / "other.html").write_text("<p>")
    with pytest.raises(RaylightError, match=r"other\.html isn't a page with a model inside"):
        model_of_page(tmp_path / "other.html")


@pytest.fixture(scope="module")
def runtime() -> WebRuntime:
    try:
        return web_runtime(None, cache_folder())
    except RaylightError as error:
        pytest.skip(f"the page's test needs ONNX Runtime Web: {error}")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("looking at pages needs a browser: install the Debian package chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])


def shown_by(browser: Any, page: Path, files: list[Path], width: int = 900) -> dict[str, Mapping[str, str]]:
    """What the page, opened from disk, shows for each file; it must not complain, connect, or be wider than the window."""
    complaints: list[str] = []
    tab = browser.new_page(viewport={"width": width, "height": 900})
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
    tab.on("request", lambda request: complaints.append(request.url) if request.url.startswith("http") else None)
    tab.goto(page.as_uri())
    tab.get_by_text("Ready.").wait_for(timeout=60_000)
    tab.locator("#files").set_input_files(files)
    tab.get_by_text("Done: ").wait_for(timeout=60_000)
    cards = tab.locator(".result").evaluate_all("all => all.map(e => ({...e.dataset, text: e.innerText}))")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    tab.close()
    assert complaints == []
    return {card["file"]: card for card in cards}


def test_the_page_predicts_as_the_run(
    run: Path, images: Path, tmp_path: Path, runtime: WebRuntime, browser: Any
) -> None:
    page = tmp_path / "page.html"
    assert export_run(run, "web", page) == 0
    upright = Image.open(images / "left" / "1-0.png")
    clear = upright.convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize(clear.size))
    clear.save(tmp_path / "transparent.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    upright.rotate(90, expand=True).save(tmp_path / "turned.png", exif=turned)
    (tmp_path / "words.jpg").write_text("no picture")
    files = [images / "right/1-3.png", images / "left/2-1.jpg", images / "left/1-0.png"]
    files += [tmp_path / "transparent.png", tmp_path / "turned.png"]

    shown = shown_by(browser, page, [*files, tmp_path / "words.jpg"], width=360)

    assert shown["words.jpg"]["text"].endswith("The browser can't read this file as a picture.")
    wanted = predictions_of(run, files).set_index("path")
    for file in files:
        row = wanted.loc[str(file)]
        found = json.loads(shown[file.name]["probabilities"])
        np.testing.assert_allclose(found, [row["p_left"], row["p_right"]], atol=1e-3)
        assert shown[file.name]["predicted"] == row["predicted"]
    assert shown["turned.png"]["probabilities"] == shown["1-0.png"]["probabilities"], "EXIF orientation is applied"


@pytest.mark.long
def test_the_page_refuses_as_the_run(
    run: Path, images: Path, tmp_path: Path, runtime: WebRuntime, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A class by threshold, none where it is not sure, and none for images unlike all training images."""
    files = sorted(images.glob("*/1-*.png"))[::4]
    plain = Predictor.open(run, precision="fp32")
    decoded = np.stack([decode_image(file.read_bytes(), plain.preprocessing.decode_spec) for file in files])
    probabilities, features = plain.probabilities(decoded), plain._body(decoded)
    threshold = between(probabilities[:, 1], 0.5)
    known = unit_vectors(features[:3])
    strict = replace(
        plain,
        threshold=threshold,
        abstains=True,
        confidence=between(confidence_of(probabilities, 1, threshold), 0.4),
        familiarity=Familiarity(known, 1, between(distances(known, features, 1), 0.7)),
    )
    monkeypatch.setattr(Predictor, "open", lambda *_, **__: strict)
    page = tmp_path / "page.html"
    assert export_run(run, "web", page) == 0

    renamed = [tmp_path / f"{number}.png" for number, _ in enumerate(files)]
    for file, name in zip(files, renamed, strict=True):
        name.write_bytes(file.read_bytes())
    shown = shown_by(browser, page, renamed)

    refused = strict.refusals(decoded, probabilities)
    assert set(refused) == {None, "unlike", "not sure"}, "each is tried"
    assert len({*strict.decide(probabilities)}) == 2
    for name, reason, given in zip(renamed, refused, strict.decide(probabilities), strict=True):
        card = shown[name.name]
        assert card["predicted"] == ("" if reason else strict.class_names[given])
        assert reason is None or reason in card["text"]


def between(values: np.ndarray, share: float) -> float:
    """A limit that a share of the values is below, as far as possible from both neighbours."""
    ordered = np.sort(values.astype(float))
    first = round(share * len(ordered)) - 1
    return float(ordered[first : first + 2].mean())
