"""The report as a browser shows it: nothing is loaded, nothing complains, nothing sticks out."""

from pathlib import Path

import pytest

from raylight.report.run_page import write_report

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
