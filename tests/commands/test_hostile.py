"""A data set made to hurt, and secrets in the environment: one whole run, with its report."""

import os
import re
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.conftest import last_line

SECRETS = {
    "WANDB_API_KEY": "local-0123456789abcdef0123456789abcdef01234567",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMIabcK7MDENGbPxRfiCYEXAMPLEKEY",
    "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz0123456789",
    "KAGGLE_KEY": "00112233445566778899aabbccddeeff",
}
SCRIPT = "<script>alert(1)<!script>"
ODD = [
    f"{SCRIPT}.png",
    "<img src=x onerror=alert(2)>.png",
    "\"><svg onload='alert(3)'>.png",
    "with space and % & ; $(touch proof) `touch proof`.png",
    "two\nlines.png",
    "=cmd|' !A0.png",
    "Zoë 猫 🐈 \u202egnp.png",
    "-rf.png",
    "Case.png",
    "case.png",
    "l" * 251 + ".png",
    "{{ 7 * 7 }} {% raw %}.png",
]
CLASSES = ("<b onclick=alert(4)>cat", "dog & 'co")


@pytest.fixture(scope="module")
def finished(
    train: Callable[..., subprocess.CompletedProcess[str]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[subprocess.CompletedProcess[str], Path]:
    folder = tmp_path_factory.mktemp("hostile")
    generator = np.random.default_rng(0)
    for label in CLASSES:
        (folder / "pictures" / label).mkdir(parents=True)
        for name in ODD:
            pixels = generator.integers(0, 255, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / label / name)
    (folder / "pictures" / CLASSES[0] / "loop").symlink_to("..")
    (folder / "pictures" / CLASSES[0] / "itself.png").symlink_to("itself.png")
    done = train(
        "data=folder",
        "data.root=pictures",
        "data.max_bad_fraction=0.2",
        "data.val_fraction=0.2",
        "data.test_fraction=0.3",
        "model.image_size=32",
        "trainer.max_epochs=1",
        "trainer.batch_size=4",
        "decode=threads",
        f"notes='{SCRIPT}'",
        cwd=folder,
        **SECRETS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done, last_line(done)


def test_every_odd_name_is_used_and_kept(finished: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    _, run = finished
    rows = pq.read_table(run / "index.parquet").to_pylist()
    good = {row["path"] for row in rows if row["status"] == "ok"}
    assert good == {f"{label}/{name}" for label in CLASSES for name in ODD}
    (bad,) = [row for row in rows if row["status"] == "bad"]
    assert bad["path"].endswith("itself.png")
    assert not list(run.parents[2].rglob("proof"))


class Elements(HTMLParser):
    """What a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts, self.handlers, self.sources = 0, [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag in ("script", "iframe", "object", "embed", "base", "form")
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.sources += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href")]


def test_no_name_and_no_note_becomes_an_element_of_the_page(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    _, run = finished
    page = (run / "report.html").read_text(encoding="utf-8")
    found = Elements()
    found.feed(page)
    assert (found.scripts, found.handlers) == (0, [])
    assert all(source.startswith(("data:image/", "data:,", "#")) for source in found.sources)
    assert "&lt;script&gt;alert(1)" in page
    assert "default-src 'none'" in page
    assert "49" not in [line.strip() for line in page.splitlines()]
    card = re.sub(r"```.*?```|`[^`\n]*`", "", (run / "model_card.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"(?<!\\)<[a-z/]", card) == []
    assert r"\<script\>alert" in card


def test_no_secret_of_the_environment_is_written_anywhere(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, run = finished
    written = [path for path in run.rglob("*") if path.is_file()]
    assert any("wandb" in path.parts for path in written)
    assert len(written) > 20
    for secret in SECRETS.values():
        assert secret not in done.stdout + done.stderr
        assert [path for path in written if secret.encode() in path.read_bytes()] == []
    assert os.environ.get("HF_TOKEN") != SECRETS["HF_TOKEN"]
