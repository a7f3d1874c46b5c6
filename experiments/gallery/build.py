"""Builds everything that a study leaves, from the demo data, into one folder, and takes pictures of it in a browser.

    python experiments/gallery/build.py [--out gallery] [--docs docs]

A sweep of two models and two seeds with its table, the report of its best run, the comparison of two models on the same
images, the app asked about a picture, and screenshots of all of them on a desk and on a phone, light and dark. With
``--docs`` the two screenshots of the README are taken anew. Needs Chromium.
"""

import argparse
import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
SWEEP = (
    "model=cnn2,cnn4",
    "seed=1,2",
    "data.split_seed=1",
    "model.image_size=96",
    "trainer.max_epochs=6",
    "decode=threads",
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PART_OF_README = {"report": "header", "pair": "h2:has-text('What accuracy costs')"}
"""Where the part of a page begins that the README shows."""
SIZES = {"desk": (1280, "light"), "desk-dark": (1280, "dark"), "phone": (390, "light"), "phone-dark": (390, "dark")}


def main() -> int:
    """Build it all; the last line printed is the folder."""
    parser = argparse.ArgumentParser(description="Build the gallery from the demo data.")
    parser.add_argument("--out", type=Path, default=ROOT / "gallery")
    parser.add_argument("--docs", type=Path, help="folder for the two screenshots of the README")
    arguments = parser.parse_args()
    browser = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if browser is None:
        print(f"Screenshots need a browser; none of {', '.join(BROWSERS)} is installed.", file=sys.stderr)
        return 2
    out = arguments.out.resolve()
    if out.exists():
        if not (out / "sweep").is_dir():
            print(f"{out} isn't a gallery and would be replaced; name another folder with --out.", file=sys.stderr)
            return 2
        shutil.rmtree(out)
    sweep = out / "sweep"
    train = [sys.executable, ROOT / "train.py", "-m", f"hydra.sweep.dir='{sweep}'", *SWEEP]
    subprocess.run(list(map(str, train)), check=True, cwd=ROOT)
    best, other = compared(sweep)
    shutil.copy(best / "report.html", out / "report.html")
    shutil.copy(best / "model_card.md", out / "model_card.md")
    shutil.copy(sweep / "comparison.html", out / "sweep.html")
    subprocess.run([BIN / "raylight", "compare", best, other, "--out", out / "pair"], check=True, cwd=ROOT)
    shutil.copy(out / "pair" / "comparison.html", out / "pair.html")
    take_pictures(browser, out, best, other)
    if arguments.docs is not None:
        arguments.docs.mkdir(parents=True, exist_ok=True)
        for name, page in (("report", "report"), ("comparison", "pair")):
            small(out / "screenshots" / f"{page}-part.png", arguments.docs / f"{name}.png")
    print(out)
    return 0


def compared(sweep: Path) -> tuple[Path, Path]:
    """The best run by validation, and the best one of the other model."""

    def value(run: Path) -> float:
        chosen: float = json.loads((run / "metrics.json").read_text())["provenance"]["selected_value"]
        return chosen

    runs = sorted((path.parent for path in sweep.glob("*/metrics.json")), key=value)
    model = {run: run.name.rpartition("-")[2] for run in runs}  # such as 0-demo-cnn2
    return runs[0], next(run for run in runs if model[run] != model[runs[0]])


def take_pictures(executable: str, out: Path, best: Path, other: Path) -> None:
    """Screenshots of every page, whole and in part, and of the app."""
    from playwright.sync_api import sync_playwright

    folder = out / "screenshots"
    folder.mkdir()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        for name in ("report", "sweep", "pair"):
            for size, (width, scheme) in SIZES.items():
                page = browser.new_page(viewport={"width": width, "height": 860}, color_scheme=scheme)  # type: ignore[arg-type]
                page.goto((out / f"{name}.html").as_uri())
                page.screenshot(path=folder / f"{name}-{size}.png", full_page=True)
                if size == "desk":
                    begin = page.locator(PART_OF_README.get(name, "h1")).first.bounding_box()["y"]
                    part = {"x": 0, "y": max(0, begin - 40), "width": width, "height": 860}
                    page.screenshot(path=folder / f"{name}-part.png", full_page=True, clip=part)
                page.close()
            page = browser.new_page()
            page.goto((out / f"{name}.html").as_uri())
            page.pdf(path=folder / f"{name}.pdf", format="A4")
            page.close()
        with served(best, other) as address:
            for size in ("desk", "phone-dark"):
                width, scheme = SIZES[size]
                page = browser.new_page(viewport={"width": width, "height": 860}, color_scheme=scheme)  # type: ignore[arg-type]
                page.goto(address)
                page.set_input_files("#upload input[type=file]", wrongly_judged(best))
                page.locator("#result-1 .said").wait_for()
                page.wait_for_timeout(500)
                page.screenshot(path=folder / f"app-{size}.png", full_page=True)
                page.close()
        browser.close()


@contextmanager
def served(*runs: Path) -> Iterator[str]:
    """The address of the app, as long as it runs."""
    command: list[Any] = [BIN / "raylight", "serve", *runs, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def wrongly_judged(run: Path) -> Path:
    """A test image that the run got wrong, or any where it got all right."""
    from raylight.data.index import Index

    with (run / "predictions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
    row = next((row for row in rows if row["label"] != row["predicted"]), rows[0])
    return Index.read(run / "index.parquet").root / row["path"]


def small(picture: Path, out: Path) -> None:
    """A screenshot in 256 colours, for a page that is read over a network."""
    from PIL import Image

    with Image.open(picture) as full:
        full.convert("RGB").quantize(256).save(out, optimize=True)


if __name__ == "__main__":
    sys.exit(main())
