"""A data set made to hurt, and secrets in the environment: one whole run, with its report."""

import csv
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from raylight.cli import app
from tests.forked import last_line

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
    "\x1b[31mred\x1b]0;title\x07.png",
]
LOOP = f"\x1b[2Jitself\nWARNING {SCRIPT}.png"
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
    (folder / "pictures" / CLASSES[0] / LOOP).symlink_to(LOOP)
    done = train(
        "data=folder",
        "data.root=pictures",
        "data.max_bad_fraction=0.2",
        "data.val_fraction=0.2",
        "data.test_fraction=0.3",
        "model.image_size=32",
        "trainer.max_epochs=1",
        "trainer.threads=1",
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
    assert bad["path"] == f"{CLASSES[0]}/{LOOP}"
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


def checked(path: Path) -> str:
    """A page, once it is known to hold no element that acts and to load nothing."""
    page = path.read_text(encoding="utf-8")
    found = Elements()
    found.feed(page)
    assert (found.scripts, found.handlers) == (0, [])
    assert all(source.startswith(("data:image/", "data:,", "#")) for source in found.sources)
    assert "default-src 'none'" in page
    return page


def test_no_name_and_no_note_becomes_an_element_of_the_page(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    _, run = finished
    page = checked(run / "report.html")
    assert "&lt;script&gt;alert(1)" in page
    assert "49" not in [line.strip() for line in page.splitlines()]
    card = re.sub(r"```.*?```|`[^`\n]*`", "", (run / "model_card.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    assert re.findall(r"(?<!\\)<[a-z/]", card) == []
    assert r"\<script\>alert" in card


def test_nor_of_an_audits_or_a_comparisons_page(
    finished: tuple[subprocess.CompletedProcess[str], Path], tmp_path: Path
) -> None:
    """The other run is this one with its decisions turned round, so that every picture is one that only one gets right."""
    _, run = finished
    other = Path(shutil.copytree(run, tmp_path / "other", ignore=shutil.ignore_patterns("wandb", "report.html")))
    with (run / "predictions.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    with (other / "predictions.csv").open("w", newline="") as file:
        turned = [[*row[:3], next(name for name in CLASSES if name != row[3]), row[5], row[4]] for row in rows]
        csv.writer(file, quoting=csv.QUOTE_ALL).writerows([header, *turned])
    config = other / "config.yaml"
    config.write_text(config.read_text().replace("max_epochs: 1", "max_epochs: 2"))  # another recipe, not a second seed
    compared = CliRunner().invoke(app, ["compare", str(run), str(other), "--out", str(tmp_path / "compared")])
    assert compared.exit_code == 0, compared.output
    assert "&lt;b onclick=alert(4)&gt;cat" in checked(tmp_path / "compared" / "comparison.html")
    asked = CliRunner().invoke(app, ["audit", str(run.parents[2] / "pictures"), "--out", str(tmp_path / "audited")])
    assert "&lt;script&gt;" in checked(tmp_path / "audited" / "audit.html")
    assert "\x1b" not in compared.output + asked.output


def test_no_name_acts_on_a_terminal_or_forges_a_line_of_the_log(
    finished: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, run = finished
    for text in (done.stdout + done.stderr, (run / "train.log").read_text()):
        assert "\x1b" not in text
        assert r"\x1b[2Jitself\nWARNING <script>" in text
        assert not [line for line in text.splitlines() if line.startswith("WARNING")]


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
