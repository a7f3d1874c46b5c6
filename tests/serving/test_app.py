"""The page of ``raylight serve``, asked by Gradio's client and opened in a browser."""

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
import numpy as np
import pytest
from PIL import Image

from raylight.data.index import Index
from raylight.serving.explanation import Judge, examples
from raylight.serving.predictor import Predictor
from tests.trained_run import move_images

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


@pytest.fixture(scope="module")
def client(served: tuple[str, Path]) -> Any:
    from gradio_client import Client

    return Client(served[0], verbose=False, analytics_enabled=False)


def test_a_program_gets_what_predict_says(client: Any, run: Path, images: Path) -> None:
    from gradio_client import handle_file

    path = images / "right" / "1-3.png"
    lenient, strict = client.predict(handle_file(str(path)), api_name="/predict")
    (block,) = Predictor.open(run).predict_files([path])
    assert [lenient["probabilities"][name] for name in ("left", "right")] == pytest.approx(
        block.probabilities[0].tolist()
    )
    assert list(lenient["probabilities"].values()) == sorted(lenient["probabilities"].values(), reverse=True)
    assert lenient["probabilities"] == strict["probabilities"]
    assert (strict["predicted"], strict["positive"], strict["threshold"]) == ("left", "right", 0.999999)
    assert lenient["predicted"] == ("right" if lenient["probabilities"]["right"] > lenient["threshold"] else "left")
    assert (lenient["run"], strict["run"]) == (run.name, "stricter")


def test_what_is_no_picture_or_too_large_is_refused_with_a_sentence(
    client: Any, served: tuple[str, Path], tmp_path: Path
) -> None:
    from gradio_client import handle_file

    (tmp_path / "words.jpg").write_text("no picture")
    with pytest.raises(Exception, match=r"This file can't be judged: not a whole image of an accepted format"):
        client.predict(handle_file(str(tmp_path / "words.jpg")), api_name="/predict")
    with pytest.raises(Exception, match="There is no picture to judge; upload one"):
        client.predict(None, api_name="/predict")
    upload = httpx.post(f"{served[0]}/gradio_api/upload", files={"files": ("big.jpg", b"x" * 3_000_000)})
    assert (upload.status_code, upload.json()["detail"]) == (
        413,
        "The file is larger than 2 MB, which is as much as is taken.",
    )

    def without_length() -> Iterator[bytes]:
        yield b'--b\r\nContent-Disposition: form-data; name="files"; filename="big.jpg"\r\n\r\n'
        for _ in range(30):
            yield b"x" * 100_000
        yield b"\r\n--b--\r\n"

    def many_files() -> Iterator[bytes]:
        for number in range(30):
            yield f'--b\r\nContent-Disposition: form-data; name="files"; filename="{number}.jpg"\r\n\r\n'.encode()
            yield b"x" * 100_000 + b"\r\n"
        yield b"--b--\r\n"

    headers = {"content-type": "multipart/form-data; boundary=b"}
    for content in (without_length(), many_files()):
        chunked = httpx.post(f"{served[0]}/gradio_api/upload", content=content, headers=headers)
        assert (chunked.status_code, "larger than 2 MB" in chunked.text) == (413, True)
    for nonsense in ("[" * 100_000, '{"data": ', ""):
        answer = httpx.post(f"{served[0]}/gradio_api/queue/join", content=nonsense)
        assert answer.status_code in (400, 422)


@pytest.mark.parametrize(
    "given",
    [
        "/etc/hostname",
        {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}},
        {"path": "https://example.com/picture.png", "meta": {"_type": "gradio.FileData"}},
        {"path": "{folder}/../etc/hostname", "meta": {"_type": "gradio.FileData"}},
        [{"value": {"path": "/etc/hostname", "meta": {"_type": "gradio.FileData"}}}],
        {"path": "\ud800", "meta": {"_type": "gradio.FileData"}},
    ],
)
def test_paths_and_addresses_are_not_read(served: tuple[str, Path], given: object) -> None:
    for route in ("call/predict", "run/predict", "queue/join", "component_server"):
        body = {"data": [given], "fn_index": 0, "session_hash": "x"}
        for content_type in ("application/json", "text/plain", "multipart/form-data; boundary=b"):
            headers = {"content-type": content_type}
            answer = httpx.post(f"{served[0]}/gradio_api/{route}", content=json.dumps(body), headers=headers)
            assert answer.status_code == 403
            assert answer.json()["detail"] == "Pictures come as uploads: a path or an address isn't read."


def test_files_of_this_machine_and_other_names_are_not_served(served: tuple[str, Path], run: Path) -> None:
    for path in ("/etc/hostname", run / "config.yaml", "https://example.com/picture.png"):
        assert httpx.get(f"{served[0]}/gradio_api/file={path}").status_code == 403
    assert httpx.get(served[0], headers={"host": "elsewhere.example"}).status_code == 403
    page = httpx.get(served[0])
    assert page.status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]


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
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(served[0])
        chooser, results = page.locator("#upload input[type=file]"), page.locator("#result-0, #result-1")
        chooser.set_input_files(images / "right" / "1-3.png")
        results.locator(".said").nth(1).wait_for(timeout=60_000)
        assert results.count() == 2
        assert results.nth(1).locator(".said").inner_text().startswith("left")
        assert "right is decided on above the threshold of 1 (the mark)" in results.nth(1).inner_text()
        pictures = results.locator("img").evaluate_all("all => all.map(i => [i.naturalWidth, i.clientWidth])")
        assert len(pictures) == 4
        assert all(loaded == 256 and shown > 100 for loaded, shown in pictures)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        examples_shown = page.locator("#examples button:has(img)")
        assert examples_shown.count() == 12
        examples_shown.nth(1).click()
        truth = results.nth(0).locator(".right, .wrong")
        truth.wait_for(timeout=60_000)
        caption = examples_shown.nth(1).inner_text().strip()
        assert re.search(rf"It is {caption}\.", truth.inner_text())
        page.get_by_role("button", name="Model card").first.click()
        page.get_by_text("Intended use").first.wait_for(timeout=60_000)
        chooser.set_input_files(tmp_path / "words.jpg")
        results.nth(1).locator(".refused").wait_for(timeout=60_000)
        assert results.nth(0).inner_text().startswith("This file can't be judged: not a whole image")
        browser.close()
    assert complaints == []
    assert {re.sub(r"^(blob:)?(http://[^/]*).*", r"\2", url) for url in requests if not url.startswith("data:")} == {
        served[0]
    }


def test_nobody_else_is_called(client: Any, served: tuple[str, Path]) -> None:
    """Nor when an uploaded file is said to come from an address."""
    (path,) = httpx.post(f"{served[0]}/gradio_api/upload", files={"files": ("a.jpg", b"no picture")}).json()
    file = {"path": path, "url": "http://203.0.113.9/picture.png", "meta": {"_type": "gradio.FileData"}}
    asked = httpx.post(f"{served[0]}/gradio_api/call/predict", json={"data": [file]})
    with httpx.stream("GET", f"{served[0]}/gradio_api/call/predict/{asked.json()['event_id']}") as answer:
        assert "This file can't be judged" in "".join(answer.iter_text())
    time.sleep(0.5)
    called = served[1].read_text().splitlines()
    assert "socket.getaddrinfo localhost" in called
    strangers = [line for line in called if not re.search(r"127\.0\.0\.1|localhost|::1|/dev/log|\.sock|None$", line)]
    assert strangers == []


def test_examples_are_test_images_that_are_still_there(
    run: Path, copied_run: Path, images: Path, tmp_path: Path
) -> None:
    judge = Judge.open(run)
    found, fewer = examples([judge])
    assert (len(found), fewer) == (12, None)
    test = judge.predictor.test_images()
    truth = dict(zip(test.column("path"), test.column("label"), strict=True))
    assert all(truth[image.path] == image.label for image in found)
    assert [image.label for image in found[:4]] == ["left", "right", "left", "right"]
    assert all((images / image.path).read_bytes() == image.content for image in found)
    moved = Path(shutil.copytree(images, tmp_path / "moved"))
    (moved / found[0].path).unlink()
    Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(moved / found[1].path)
    move_images(copied_run, moved)
    left, fewer = examples([Judge.open(copied_run)])
    assert [image.path for image in left] == [image.path for image in found[2:]]
    assert fewer is not None
    assert "2 pictures can't be shown" in fewer
    assert "changed since the run: 1" in fewer


def test_what_one_run_was_tested_on_and_another_trained_on_is_no_example(run: Path, copied_run: Path) -> None:
    from dataclasses import replace

    index = Index.read(copied_run / "index.parquet")
    other = ["train" if split == "test" else "test" if split == "train" else split for split in index.column("split")]
    position = index.table.column_names.index("split")
    table = index.table.set_column(position, index.table.schema.field("split"), [other])
    replace(index, table=table).write(copied_run / "index.parquet")
    found, fewer = examples([Judge.open(run), Judge.open(copied_run)])
    assert found == []
    assert fewer is not None
    assert fewer.startswith("No image is in the test split of every run")


def test_a_model_without_its_results_can_be_shown(
    untrained: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from raylight.serving.app import QUIET, page

    for name, value in {**QUIET, "GRADIO_TEMP_DIR": str(tmp_path / "uploads")}.items():
        monkeypatch.setenv(name, value)
    blocks = page([Judge.open(untrained(("ape", "bee", "cow")))])
    texts = " ".join(str(part["props"].get("value", "")) for part in blocks.get_config_file()["components"])
    assert "index can&#39;t be read" in texts
    assert "There is no model card" in texts


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--port", "{taken}"), "can't be listened on (Address already in use)"),
        (("--host", "203.0.113.7", "--port", "0"), "can't be listened on (Cannot assign requested address)"),
        (("--max-mb", "0"), "--max-mb: 0 lets no picture through"),
    ],
)
def test_what_cannot_be_served_is_said(
    raylight: Any, run: Path, served: tuple[str, Path], options: tuple[str, ...], message: str
) -> None:
    taken = served[0].rpartition(":")[2]
    done = raylight("serve", run, *(option.format(taken=taken) for option in options))
    assert done.exit_code == 2
    assert message in done.stderr
