"""Does an exported file answer like ``raylight predict``, from whole image files?

    python -m experiments.exporting.agreement RUN [--images 40] [--chromium /usr/bin/chromium] [--times]

Exports a run as ONNX and as a page, and predicts its test images with each runtime that is installed: ONNX Runtime, OpenVINO
(in float32, and as it comes), ONNX Runtime Web in Chromium. Programs decode whole files (Pillow; Chromium). Prints, as a
Markdown table, how far probabilities are from the run's: largest, median, and the images above 0.001; once for the same whole
images, resized by the run, and once for the run's own decoding. With ``--times``,
milliseconds an image instead (the median of three).
"""

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from raylight.data.decode.jpeg import RESIZER
from raylight.serving.exports.check_images import resized_in_one_step
from raylight.serving.exports.command import export_run
from raylight.serving.exports.formats import FORMATS
from raylight.serving.predictor import Predictor

Runtime = Callable[[np.ndarray], np.ndarray]
"""Pixels, uint8[1, height, width, 3], to probabilities, float[class]."""


def whole(path: Path) -> np.ndarray:
    """All pixels of a file, upright."""
    return np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))


def runtimes(model: Path) -> dict[str, Runtime]:
    """The installed runtimes."""
    opened = FORMATS["onnx"].open(model)
    found: dict[str, Runtime] = {"ONNX Runtime": lambda pixels: opened(pixels)["probabilities"][0]}
    if importlib.util.find_spec("openvino"):
        import openvino

        core = openvino.Core()
        for name, settings in (("OpenVINO, float32", {"INFERENCE_PRECISION_HINT": "f32"}), ("OpenVINO", {})):
            compiled = core.compile_model(core.read_model(model), "CPU", settings)
            found[name] = lambda pixels, compiled=compiled: compiled({"images": pixels})["probabilities"][0]
    return found


def in_browser(page: Path, files: Sequence[Path], chromium: Path) -> np.ndarray:
    """What the page, opened from disk in Chromium, computes for each file."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        numbered = [Path(folder, f"{number}{file.suffix}") for number, file in enumerate(files)]
        for file, name in zip(files, numbered, strict=True):
            name.symlink_to(file.resolve())
        tab = playwright.chromium.launch(executable_path=str(chromium), args=["--no-sandbox"]).new_page()
        tab.goto(page.resolve().as_uri())
        tab.get_by_text("Ready.").wait_for(timeout=60_000)
        tab.locator("#files").set_input_files(numbered)
        tab.get_by_text("Done: ").wait_for(timeout=600_000)
        shown = tab.locator(".result").evaluate_all("all => all.map(e => [e.dataset.file, e.dataset.probabilities])")
    by_name = {name: json.loads(probabilities) for name, probabilities in shown}
    return np.array([by_name[name.name] for name in numbered])


def row(name: str, found: np.ndarray, same: np.ndarray | None, predicted: np.ndarray) -> str:
    """A row of the table."""
    cells = []
    for wanted in (same, predicted):
        if wanted is None:
            cells.append("| | | ")
            continue
        apart = np.abs(found - wanted).max(axis=1)
        cells.append(f"| {apart.max():.1e} | {np.median(apart):.1e} | {(apart > 1e-3).sum()} of {len(apart)} ")
    return f"| {name} {''.join(cells)}|"


def agreement(run: Path, files: Sequence[Path], model: Path, page: Path | None, chromium: Path) -> None:
    """Print the table."""
    predictor, own = Predictor.open(run, precision="fp32"), Predictor.open(run)
    spec = predictor.preprocessing.decode_spec
    images = [whole(file) for file in files]
    same = predictor.probabilities(np.stack([resized_in_one_step(image, spec, RESIZER) for image in images]))
    predicted, predicted_own = (
        np.concatenate([block.probabilities for block in each.predict_files(files)]) for each in (predictor, own)
    )
    print("| | same pixels: largest | median | > 0.001 | predict: largest | median | > 0.001 |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, runtime in runtimes(model).items():
        print(row(name, np.stack([runtime(image[None]) for image in images]), same, predicted))
    if page is not None:
        print(row("Chromium", in_browser(page, files, chromium), same, predicted))
    print(row(f"the run itself in {own.precision}", predicted_own, None, predicted))
    by_pillow = predictor.probabilities(np.stack([resized_in_one_step(image, spec, "pillow") for image in images]))
    print(row("the run, resized by Pillow", by_pillow, same, predicted))


def times(files: Sequence[Path], model: Path, prepared: Path, size: tuple[int, ...]) -> None:
    """Print milliseconds an image with and without resizing."""
    images = [whole(file)[None] for file in files]
    megapixels = np.mean([image.shape[1] * image.shape[2] / 1e6 for image in images])
    print(f"{len(images)} images of {megapixels:.2f} megapixels, milliseconds an image: wall, processor\n")
    pair = zip(runtimes(model).items(), runtimes(prepared).items(), strict=True)
    for (name, resizing), (_, network) in pair:
        for label, runtime, given in (
            (f"{name}, with resizing", resizing, images),
            (f"{name}, prepared", network, [np.zeros((1, *size), np.uint8)] * len(images)),
        ):
            runtime(given[0])
            spent = []
            for _ in range(3):
                start, used = time.perf_counter(), time.process_time()
                for image in given:
                    runtime(image)
                spent.append([time.perf_counter() - start, time.process_time() - used])
            wall, processor = 1000 * np.median(spent, axis=0) / len(images)
            print(f"| {label} | {wall:.1f} | {processor:.1f} |")


def main() -> None:
    """Read the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--chromium", type=Path, default=Path("/usr/bin/chromium"))
    parser.add_argument("--times", action="store_true")
    given = parser.parse_args()
    predictor = Predictor.open(given.run, precision="fp32")
    index = predictor.test_images()
    files = [index.root / str(path) for path in index.column("path")][: given.images]
    with tempfile.TemporaryDirectory() as folder:
        model, prepared, page = (Path(folder, name) for name in ("model.onnx", "prepared.onnx", "model.html"))
        export_run(given.run, "onnx", model)
        if given.times:
            export_run(given.run, "onnx", prepared, prepared=True)
            times(files, model, prepared, predictor.preprocessing.decode_spec.image_shape)
            return
        if given.chromium.exists():
            export_run(given.run, "web", page)
        agreement(given.run, files, model, page if page.exists() else None, given.chromium)


if __name__ == "__main__":
    main()
