"""The page of ``raylight serve``, asked over HTTP and opened in a browser."""

import http.client
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from raylight.errors import ConfigError
from raylight.serving.app import LOOPBACK, page, serve_runs
from raylight.serving.explanation import ServedRun
from raylight.serving.predictor import Predictor

CHROMIUM = Path("/usr/bin/chromium")


WATCHED = """
import sys
calls = open(sys.argv.pop(1), "w", buffering=1)
def watch(event, details):
    if event in ("socket.getaddrinfo", "socket.connect"):
        calls.write(f"{event} {details[0] if event == 'socket.getaddrinfo' else details[1]}\\n")
sys.addaudithook(watch)
import socket; socket.getaddrinfo("localhost", 80)  # shows that somebody is watching
from raylight.cli import main
main()
"""
"""``raylight``, with every address that it looks up or connects to written down."""


@pytest.fixture(scope="module")
def second_run(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same network, which decides on ``right`` only when all but certain."""
    folder = Path(shutil.copytree(run, tmp_path_factory.mktemp("second") / "stricter"))
    facts = json.loads((folder / "preprocessing.json").read_text())
    (folder / "preprocessing.json").write_text(json.dumps({**facts, "threshold": 0.999999}))
    return folder


@pytest.fixture(scope="module")
def served(run: Path, second_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address of a page of two runs, and the list of whom its process called."""
    calls = tmp_path_factory.mktemp("serve") / "calls"
    command = [sys.executable, "-c", WATCHED, calls, "serve", run, second_run, "--port", "0", "--max-mb", "2"]
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert address.startswith("http://127.0.0.1:"), address + process.stdout.read()
    yield address, calls
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 0
    assert "Traceback" not in process.stdout.read()


def upload(address: str, content: bytes, route: str = "/predict", **headers: str) -> httpx.Response:
    return httpx.post(f"{address}{route}", files={"picture": ("a.jpg", content)}, headers=headers)


def test_a_program_gets_what_predict_says(served: tuple[str, Path], run: Path, images: Path) -> None:
    path = images / "right" / "1-3.png"
    as_form = upload(served[0], path.read_bytes())
    as_body = httpx.post(f"{served[0]}/predict", content=path.read_bytes())
    assert as_form.json() == as_body.json()
    lenient, strict = as_form.json()
    (block,) = Predictor.open(run).predict_files([path])
    assert [lenient["probabilities"][name] for name in ("left", "right")] == pytest.approx(
        block.probabilities[0].tolist()
    )
    assert list(lenient["probabilities"].values()) == sorted(lenient["probabilities"].values(), reverse=True)
    assert lenient["probabilities"] == strict["probabilities"]
    assert (strict["predicted"], strict["positive"], strict["threshold"]) == ("left", "right", 0.999999)
    assert lenient["predicted"] == ("right" if lenient["probabilities"]["right"] > lenient["threshold"] else "left")
    assert (lenient["run"], strict["run"]) == (run.name, "stricter")


def test_what_is_no_picture_or_too_large_is_refused_with_a_sentence(served: tuple[str, Path]) -> None:
    words = upload(served[0], b"no picture")
    assert words.status_code == 422
    assert words.json()["detail"].startswith("This file can't be used: not a whole image of an accepted format")
    shown = upload(served[0], b"no picture", "/")
    assert (shown.status_code, "This file can&#39;t be used: not a whole image" in shown.text) == (422, True)
    for empty in (httpx.post(f"{served[0]}/predict"), upload(served[0], b"")):
        assert (empty.status_code, empty.json()["detail"]) == (400, "There is no picture to predict; upload one.")

    def without_length() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="picture"; filename="big.jpg"\r\n\r\n'
        for _ in range(30):
            yield b"x" * 100_000
        yield b"\r\n--b--\r\n"

    def endless_body() -> Iterator[bytes]:
        for _ in range(30):
            yield b"x" * 100_000

    form = {"content-type": "multipart/form-data; boundary=b"}
    too_large = [
        upload(served[0], b"x" * 3_000_000),
        httpx.post(f"{served[0]}/predict", content=without_length(), headers=form),
        httpx.post(f"{served[0]}/", content=endless_body()),
    ]
    for answer in too_large:
        assert answer.status_code == 413
        assert answer.json()["detail"] == "The file is larger than 2 MB, the maximum."
    connection = http.client.HTTPConnection(served[0].removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/predict")
    for header in (("Content-Length", "10"), ("Transfer-Encoding", "chunked")):
        connection.putheader(*header)
    connection.endheaders(endless_body(), encode_chunked=True)
    assert connection.getresponse().status == 413
    connection.close()
    several = httpx.post(f"{served[0]}/predict", files=[("picture", ("a.jpg", b"x")), ("other", ("b.jpg", b"x"))])
    field = httpx.post(f"{served[0]}/predict", files={"picture": (None, "/etc/hostname")})
    broken = httpx.post(f"{served[0]}/predict", content=b"--c", headers={"content-type": "multipart/form-data"})
    assert [answer.status_code for answer in (several, field, broken)] == [400, 400, 400]


def test_nothing_but_the_page_is_served_and_to_nobody_elsewhere(served: tuple[str, Path]) -> None:
    for path in (
        "/etc/hostname",
        "/page.html",
        "/docs",
        "/openapi.json",
        "/?example=12",
        "/?example=x",
        "/?example=0000000009",
        "/?example=-1",
    ):
        assert httpx.get(served[0] + path).status_code == 404
    for host in ("elsewhere.example", "localhost.elsewhere.example", ""):
        assert httpx.get(served[0], headers={"host": host}).status_code in (400, 403)
    assert upload(served[0], b"x", **{"sec-fetch-site": "cross-site"}).status_code == 403
    page = httpx.get(served[0])
    assert page.status_code == 200
    assert page.headers["content-security-policy"].startswith("default-src 'none'; img-src data:;")


def test_a_proxy_may_ask_by_the_name_that_it_is_allowed(run: Path) -> None:
    from starlette.testclient import TestClient

    app = page([ServedRun.open(run)], 2, (*LOOPBACK, "lab.example"))
    assert TestClient(app, base_url="http://lab.example:8443").get("/").status_code == 200
    refused = TestClient(app, base_url="http://other.example").get("/")
    assert (refused.status_code, refused.json()["detail"]) == (
        403,
        "This page answers only to localhost, 127.0.0.1, [::1], lab.example.",
    )


@pytest.mark.parametrize("address", ["https://lab.example/cats", "lab.example:8443", "lab.example/"])
def test_an_address_is_no_name_of_a_host(run: Path, address: str) -> None:
    with pytest.raises(
        ConfigError, match=f"--allow-host: '{address}' is .* without scheme, port and path: lab.example$"
    ):
        serve_runs([run / "none"], "127.0.0.1", 0, 20, [address])


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_the_page_in_a_browser(served: tuple[str, Path], images: Path, tmp_path: Path, width: int, scheme: str) -> None:
    if not CHROMIUM.exists():
        pytest.skip("looking at pages needs a browser: install the Debian package chromium")
    from playwright.sync_api import sync_playwright

    (tmp_path / "words.jpg").write_text("no picture")
    complaints: list[str] = []
    requests: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("request", lambda request: requests.append(request.url))
        page.goto(served[0])
        page.locator("input[type=file]").set_input_files(images / "right" / "1-3.png")  # sends itself
        results = page.locator(".run")
        results.locator(".predicted").nth(1).wait_for(timeout=60_000)
        assert results.count() == 2
        assert results.nth(1).locator(".predicted").inner_text().startswith("left")
        assert "right is predicted above the threshold of 1 (the mark)" in results.nth(1).inner_text()
        pictures = results.locator("img").evaluate_all("all => all.map(i => [i.naturalWidth, i.clientWidth])")
        assert len(pictures) == 4
        assert all(loaded == 256 and shown > 100 for loaded, shown in pictures)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        examples_shown = page.locator(".examples a:has(img)")
        assert examples_shown.count() == 12
        caption = examples_shown.nth(1).inner_text().strip()
        examples_shown.nth(1).click()
        truth = results.nth(0).locator(".right, .wrong")
        truth.wait_for(timeout=60_000)
        assert truth.inner_text().endswith(f"Its label is {caption}.")
        page.get_by_text("Model card").first.click()
        page.get_by_text("Intended use").first.wait_for(timeout=60_000)
        assert complaints == []
        page.locator("input[type=file]").set_input_files(tmp_path / "words.jpg")
        page.locator(".refused").wait_for(timeout=60_000)
        assert page.locator(".refused").inner_text().startswith("This file can't be used: not a whole image")
        browser.close()
    assert {re.sub(r"^(http://[^/]*).*", r"\1", url) for url in requests if not url.startswith("data:")} == {served[0]}


def test_nobody_else_is_called(served: tuple[str, Path], images: Path) -> None:
    assert upload(served[0], (images / "right" / "1-3.png").read_bytes(), "/").status_code == 200
    time.sleep(0.5)
    called = served[1].read_text().splitlines()
    assert "socket.getaddrinfo localhost" in called
    strangers = [line for line in called if not re.search(r"127\.0\.0\.1|localhost|::1|/dev/log|\.sock|None$", line)]
    assert strangers == []


def test_a_model_without_its_results_can_be_shown(untrained: Any) -> None:
    from starlette.testclient import TestClient

    app = page([ServedRun.open(untrained(("ape", "bee", "cow")))], 2, None)
    shown = TestClient(app).get("/")
    assert shown.status_code == 200
    assert "index can&#39;t be read" in shown.text
    assert "There is no model card" in shown.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--port", "{taken}"), "can't listen there (Address already in use)"),
        (("--host", "203.0.113.7", "--port", "0"), "can't listen there (Cannot assign requested address)"),
        (("--max-mb", "0"), "--max-mb: 0 allows no picture"),
    ],
)
def test_what_cannot_be_served_is_said(
    raylight: Any, run: Path, served: tuple[str, Path], options: tuple[str, ...], message: str
) -> None:
    taken = served[0].rpartition(":")[2]
    done = raylight("serve", run, *(option.format(taken=taken) for option in options))
    assert done.exit_code == 2
    assert message in done.stderr
