"""The demo data set: drawings of cat and dog faces, identical for everyone, without a download.

The classes differ in shape alone: ears, skull, muzzle, nose, pupils, whiskers; and in each of these they overlap, as in reality
(a Scottish fold's ears hang, a shepherd's stand up). Everything else has the same distribution in both classes: colour,
brightness, image size, file format, position, clutter, occlusion. No metadata predicts the label. Three broken files
demonstrate the quarantine.

Not here: the shapes of a face (``demo_face``), reading the folder (``source``), rejecting broken files (``data.index``).
"""

import glob
import io
import os
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from filelock import FileLock
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter

from raylight.data.sources.demo_face import cat, dog, face_shapes
from raylight.data.sources.demo_shapes import (
    Colour,
    Points,
    Shape,
    blend,
    ellipse,
    random_colour,
    rotate,
)
from raylight.storage.atomic import sync_all

CLASSES = ("cat", "dog")
SUPERSAMPLING = 2


@dataclass(frozen=True)
class Frame:
    """Properties of a drawing that don't depend on the class.

    Attributes:
        width: in pixels.
        height: in pixels.
        suffix: ``.jpg`` or ``.png``.
        grey: whether it is stored with one channel.
        quality: of a JPEG, 1 to 95.
    """

    width: int
    height: int
    suffix: str
    grey: bool
    quality: int


def demo_root(cache_dir: Path) -> Path:
    """The folder of the demo data set; its version changes whenever the drawings do."""
    return cache_dir / "demo-v1"


def draw_demo(root: Path, images: int = 600, seed: int = 7) -> None:
    """Draws the data set into ``root/{cat,dog}/``, unless ``root`` exists.

    The files are written under a lock into a temporary folder, which is renamed once it is complete.

    Args:
        root: folder to create.
        images: number of drawings, half of them cats; three broken files are added.
        seed: of all drawings; the same seed gives the same images.
    """
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root.with_name(f".{root.name}.lock")):
        if root.exists():
            return
        for abandoned in root.parent.glob(f".{glob.escape(root.name)}-*"):  # left by a killed process
            shutil.rmtree(abandoned, ignore_errors=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f".{root.name}-", dir=root.parent))
        try:
            for name in CLASSES:
                (unfinished / name).mkdir()
            with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
                for _ in pool.map(lambda number: _write_drawing(unfinished, number, seed), range(images)):
                    pass
            _write_broken_files(unfinished, seed)
            unfinished.chmod(0o755)
            sync_all()
            unfinished.rename(root)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)


def draw_face(kind: str, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    """Draws a face, in RGB.

    Args:
        kind: ``cat`` or ``dog``.
        width: in pixels.
        height: in pixels.
        rng: source of all randomness.

    Returns:
        The drawing.
    """
    features = cat(rng) if kind == "cat" else dog(rng)
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    backdrop = _backdrop(rng)
    image = Image.new("RGB", size, backdrop)
    draw = ImageDraw.Draw(image)
    _clutter(draw, size, backdrop, int(rng.integers(0, 6)), rng)
    face = face_shapes(features, rng)
    _paint(image, face, _pose(size, _extent(face), rng))
    if rng.random() < 0.1:
        _occlude(draw, size, rng)
    image = image.reduce(SUPERSAMPLING)
    if rng.random() < 0.2:
        image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.4))))
    return Image.fromarray(_light_and_noise(np.asarray(image), rng))


def _write_drawing(root: Path, number: int, seed: int) -> None:
    rng = np.random.default_rng([seed, number])
    frame = _frame(rng)
    kind = CLASSES[number % 2]
    image = draw_face(kind, frame.width, frame.height, rng)
    if frame.grey:
        image = image.convert("L")
    path = root / kind / f"{kind}_{number // 2:03d}{frame.suffix}"
    if frame.suffix == ".png":
        image.save(path, compress_level=1)
    else:
        image.save(path, quality=frame.quality)


def _write_broken_files(root: Path, seed: int) -> None:
    (root / "cat" / "broken_empty.jpg").write_bytes(b"")
    (root / "cat" / "broken_text.png").write_text("This was a picture once; now it is a sentence.\n", encoding="utf-8")
    stream = io.BytesIO()
    draw_face("dog", 160, 140, np.random.default_rng([seed, 0, 1])).save(stream, format="JPEG", quality=90)
    (root / "dog" / "broken_truncated.jpg").write_bytes(stream.getvalue()[: len(stream.getvalue()) * 2 // 5])


def _frame(rng: np.random.Generator) -> Frame:
    long_side = int(rng.integers(120, 261))
    short_side = int(np.clip(long_side * rng.uniform(0.8, 1.0), 90, 260))
    width, height = (long_side, short_side) if rng.random() < 0.5 else (short_side, long_side)
    return Frame(
        width=width,
        height=height,
        suffix=".png" if rng.random() < 0.25 else ".jpg",
        grey=bool(rng.random() < 0.15),
        quality=int(rng.integers(60, 96)),
    )


def _paint(image: Image.Image, shapes: list[Shape], pose: Callable[[Points], Points]) -> None:
    draw = ImageDraw.Draw(image)
    pen = min(image.size) * 0.006
    for shape in shapes:
        corners = [(float(x), float(y)) for x, y in pose(shape.points)]
        if shape.line:
            draw.line(corners, fill=shape.colour, width=max(1, round(pen * shape.line)))
            continue
        draw.polygon(corners, fill=shape.colour)
        if shape.edge is not None:
            draw.line([*corners, corners[0]], fill=shape.edge, width=max(1, round(pen)), joint="curve")


def _extent(shapes: list[Shape]) -> float:
    """Square root of the area of a face, in units of the head's radius."""
    unit = 24
    mask = Image.new("1", (6 * unit, 6 * unit))
    draw = ImageDraw.Draw(mask)
    for shape in shapes:
        if not shape.line:
            draw.polygon([(float(x), float(y)) for x, y in (shape.points + 3) * unit], fill=1)
    return float(np.sqrt(np.asarray(mask).sum()) / unit)


def _pose(size: tuple[int, int], extent: float, rng: np.random.Generator) -> Callable[[Points], Points]:
    """Positions the face. All faces cover the same share of the image, so that area doesn't predict the label."""
    width, height = size
    scale = min(size) * rng.uniform(0.58, 0.67) / extent
    centre = np.array([width * (0.5 + rng.normal(0, 0.022)), height * (0.54 + rng.normal(0, 0.022))])
    tilt = rng.normal(0.0, 0.08)
    stretch = np.array([rng.uniform(0.93, 1.07), 1.0])
    return lambda points: centre + scale * rotate(points * stretch, tilt)


def _clutter(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], backdrop: Colour, count: int, rng: np.random.Generator
) -> None:
    """Draws shapes behind the face, some of them pointed or round like ears."""
    for _ in range(count):
        centre = rng.uniform(0, 1, 2) * np.array(size)
        radius = min(size) * rng.uniform(0.06, 0.35)
        kind = rng.integers(4)
        if kind == 0:
            points = ellipse(0, 0, 1, rng.uniform(0.4, 1))
        elif kind == 1:
            points = np.array([[-0.7, 0.6], [0.0, -1.0], [0.7, 0.6]])
        elif kind == 2:
            points = np.array([[-1, -0.5], [1, -0.5], [1, 0.5], [-1, 0.5]])
        else:
            points = np.array([[-3, -0.12], [3, -0.12], [3, 0.12], [-3, 0.12]])
        corners = centre + radius * rotate(points, rng.uniform(0, 2 * np.pi))
        draw.polygon(
            [(float(x), float(y)) for x, y in corners],
            fill=blend(backdrop, random_colour(rng), rng.uniform(0.15, 0.55)),
        )


def _occlude(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Draws a leaf, a post or a ball in front of part of the image."""
    centre = rng.uniform(0.15, 0.85, 2) * np.array(size)
    kind = rng.integers(3)
    if kind == 0:
        points = ellipse(0, 0, 0.11, 0.34)
    elif kind == 1:
        points = np.array([[-0.05, -2], [0.05, -2], [0.05, 2], [-0.05, 2]])
    else:
        points = ellipse(0, 0, 0.15, 0.15)
    corners = centre + min(size) * rng.uniform(0.7, 1.2) * rotate(points, rng.uniform(0, np.pi))
    draw.polygon([(float(x), float(y)) for x, y in corners], fill=random_colour(rng))


def _light_and_noise(
    pixels: UInt8[np.ndarray, "height width 3"], rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    direction = rng.uniform(0, 2 * np.pi)
    ramp = np.cos(direction) * (x / width - 0.5) + np.sin(direction) * (y / height - 0.5)
    light = rng.uniform(0.8, 1.1) + rng.uniform(0.0, 0.3) * ramp
    contrast = rng.uniform(0.75, 1.0)
    lit = (pixels.astype(np.float32) - 128) * contrast + 128
    noise = rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(2, 9)
    return np.asarray(np.clip(lit * light[:, :, None] + noise, 0, 255), dtype=np.uint8)


def _backdrop(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(195, 251, 3))
    return red, green, blue
