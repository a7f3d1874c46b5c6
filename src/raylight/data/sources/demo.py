"""The demo data set: drawings of cat and dog faces, identical for everyone, without a download.

The classes differ in shape alone: ears, skull, muzzle, nose, pupils, whiskers, and each of these overlaps between the
classes, as in reality (a Scottish fold's ears hang, a shepherd's stand up). Everything else has the same distribution in both:
colour, brightness, image size, file format, position, clutter, occlusion. No metadata predicts the label. Three broken
files demonstrate the quarantine.

Not here: reading the folder (``source.py``), rejecting broken files (``index.py``).
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
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFilter

from raylight.storage.atomic import sync_all

Points = Float[np.ndarray, "point 2"]
Colour = tuple[int, int, int]

CLASSES = ("cat", "dog")
SUPERSAMPLING = 2

FURS: tuple[Colour, ...] = (
    (206, 124, 58),  # ginger
    (206, 172, 126),  # cream
    (128, 128, 136),  # blue-grey
    (70, 62, 62),  # near black
    (136, 92, 60),  # brown
    (196, 192, 188),  # silver
    (172, 140, 100),  # fawn
    (168, 110, 84),  # chestnut
    (96, 108, 124),  # slate
    (176, 146, 160),  # lilac
)
IRISES: tuple[Colour, ...] = ((112, 168, 84), (196, 160, 60), (88, 140, 190), (116, 78, 44), (80, 150, 140))
NOSES: tuple[Colour, ...] = ((60, 44, 44), (206, 134, 138), (130, 90, 80), (236, 180, 180))
TONGUE: Colour = (226, 110, 124)


@dataclass(frozen=True)
class Frame:
    """Properties of a drawing that don't depend on the class.

    Attributes:
        width: in pixels.
        height: in pixels.
        suffix: ``.jpg`` or ``.png``.
        grey: stored with one channel.
        quality: of a JPEG, 1 to 95.
    """

    width: int
    height: int
    suffix: str
    grey: bool
    quality: int


@dataclass(frozen=True)
class Looks:
    """The shape of one face, in units of the head's radius.

    Attributes:
        ears: ``pointed``, ``folded`` or ``hanging``.
        ear_length: from its root to its tip.
        skull: half width and half height of the head.
        muzzle: half width of the muzzle.
        nose: half width of the nose.
        pupil: width of the pupil over its height.
        eye: radius of an eye.
        whiskers: length; 0 for none.
    """

    ears: str
    ear_length: float
    skull: tuple[float, float]
    muzzle: float
    nose: float
    pupil: float
    eye: float
    whiskers: float


@dataclass(frozen=True)
class Shape:
    """A filled outline, or a line when ``line`` (its width, in pen widths) isn't 0."""

    points: Points
    colour: Colour
    edge: Colour | None = None
    line: float = 0.0


def demo_root(cache_dir: Path) -> Path:
    """The folder of the demo data set; its name changes with the way of drawing."""
    return cache_dir / "demo-v1"


def draw_demo(root: Path, images: int = 600, seed: int = 7) -> None:
    """Draws the data set into ``root/{cat,dog}/``, unless ``root`` exists.

    Drawings are made under a lock in a temporary folder, which is renamed once it is complete.

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
    """
    looks = _cat(rng) if kind == "cat" else _dog(rng)
    size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
    backdrop = _backdrop(rng)
    image = Image.new("RGB", size, backdrop)
    draw = ImageDraw.Draw(image)
    _clutter(draw, size, backdrop, int(rng.integers(0, 6)), rng)
    face = _face(looks, rng)
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
    whole = io.BytesIO()
    draw_face("dog", 160, 140, np.random.default_rng([seed, 0, 1])).save(whole, format="JPEG", quality=90)
    (root / "dog" / "broken_truncated.jpg").write_bytes(whole.getvalue()[: len(whole.getvalue()) * 2 // 5])


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


def _cat(rng: np.random.Generator) -> Looks:
    return Looks(
        ears=str(rng.choice(["pointed", "folded", "hanging"], p=[0.96, 0.03, 0.01])),
        ear_length=rng.uniform(0.6, 1.0),
        skull=(rng.normal(1.03, 0.07), rng.normal(0.90, 0.07)),
        muzzle=rng.normal(0.38, 0.07),
        nose=rng.normal(0.12, 0.03),
        pupil=rng.uniform(0.25, 0.75),
        eye=rng.normal(0.24, 0.03),
        whiskers=rng.uniform(0.6, 1.1) if rng.random() < 0.85 else 0.0,
    )


def _dog(rng: np.random.Generator) -> Looks:
    return Looks(
        ears=str(rng.choice(["pointed", "folded", "hanging"], p=[0.03, 0.05, 0.92])),
        ear_length=rng.uniform(0.7, 1.2),
        skull=(rng.normal(0.90, 0.07), rng.normal(1.0, 0.07)),
        muzzle=rng.normal(0.54, 0.07),
        nose=rng.normal(0.21, 0.035),
        pupil=rng.uniform(0.75, 1.05),
        eye=rng.normal(0.20, 0.03),
        whiskers=rng.uniform(0.3, 0.7) if rng.random() < 0.35 else 0.0,
    )


def _face(looks: Looks, rng: np.random.Generator) -> list[Shape]:
    """A face as flat shapes, back to front, in units of the head's radius around (0, 0)."""
    fur = _vary(FURS[rng.integers(len(FURS))], rng, 14)
    second = _vary(FURS[rng.integers(len(FURS))], rng, 14)
    outline = _shade(fur, rng.uniform(0.45, 0.75))
    turned = np.array([rng.uniform(-0.22, 0.22), rng.uniform(-0.08, 0.12)])
    hanging = looks.ears == "hanging"
    draw_ears = _hanging_ears if hanging else _standing_ears
    ears = draw_ears(looks, fur if rng.random() < 0.6 else second, outline, rng)
    skull = [Shape(_ellipse(0, 0, *looks.skull, power=2.3), fur, outline), *_coat(looks, second, rng)]
    muzzle_fur = _blend(fur, (250, 244, 236) if rng.random() < 0.5 else (40, 34, 34), rng.uniform(0.15, 0.6))
    return [
        *(skull + ears if hanging else ears + skull),
        *_eyes(looks, turned, outline, rng),
        *_muzzle(looks, turned, muzzle_fur, outline, rng),
    ]


def _standing_ears(looks: Looks, fur: Colour, outline: Colour, rng: np.random.Generator) -> list[Shape]:
    half_width, half_height = looks.skull
    lining = _blend(fur, (236, 160, 160) if rng.random() < 0.5 else (84, 52, 56), 0.5)
    shapes = []
    for side in (-1, 1):
        root = np.array([side * half_width * 0.62, -half_height * 0.62])
        lean = rng.uniform(0.1, 0.42) * side
        tip = root + looks.ear_length * np.array([np.sin(lean), -np.cos(lean)])
        near = np.array([side * half_width * 0.12, -half_height * 0.86])
        far = np.array([side * half_width * 0.95, -half_height * 0.22])
        if looks.ears == "pointed":
            ear = np.concatenate([_curve(near, tip, 0.10 * side), _curve(tip, far, 0.10 * side)])
            inner = ear.mean(0) + (ear - ear.mean(0)) * 0.58
            shapes += [Shape(ear, fur, outline), Shape(inner, lining)]
            continue
        # The ear bends half way up, and its tip hangs forward over the lower half.
        left, right = (near + tip) / 2, (far + tip) / 2
        drop = (left + right) / 2 + np.array([side * 0.22, 0.42 * looks.ear_length])
        flap = np.concatenate([_curve(left, drop, 0.12 * side), _curve(drop, right, 0.12 * side)])
        shapes += [
            Shape(np.stack([near, left, right, far]), fur, outline),
            Shape(flap, fur, outline),
        ]
    return shapes


def _hanging_ears(looks: Looks, fur: Colour, outline: Colour, rng: np.random.Generator) -> list[Shape]:
    half_width, half_height = looks.skull
    angle = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    shapes = []
    for side in (-1, 1):
        breadth = rng.uniform(0.24, 0.36)
        length = looks.ear_length * 0.72
        ear = np.stack([breadth * np.sin(angle) * (1 - 0.35 * np.cos(angle)), -length * np.cos(angle)], axis=1)
        root = np.array([side * half_width * 0.82, -half_height * 0.62])
        swing = -side * rng.uniform(0.05, 0.5)
        shapes.append(Shape(root + _turn(ear + np.array([0.0, length * 0.8]), swing), fur, outline))
    return shapes


def _coat(looks: Looks, colour: Colour, rng: np.random.Generator) -> list[Shape]:
    half_width, half_height = looks.skull
    style = rng.random()
    if style < 0.3:  # a patch over one eye
        side = int(rng.choice([-1, 1]))
        tilt = rng.uniform(-1, 1)
        return [Shape(_ellipse(side * half_width * 0.45, -half_height * 0.2, 0.34, 0.38, tilt=tilt), colour)]
    if style < 0.5:  # a blaze between the eyes
        return [Shape(_ellipse(0, -half_height * 0.45, rng.uniform(0.1, 0.2), half_height * 0.48), colour)]
    if style < 0.7:  # stripes on the brow
        return [Shape(_ellipse(x, -half_height * 0.68, 0.05, 0.2, tilt=-x * 0.8), colour) for x in (-0.28, 0.0, 0.28)]
    return []


def _eyes(looks: Looks, turned: Points, outline: Colour, rng: np.random.Generator) -> list[Shape]:
    iris = _vary(IRISES[rng.integers(len(IRISES))], rng, 12)
    apart = looks.skull[0] * rng.uniform(0.38, 0.46)
    openness = rng.uniform(0.72, 1.0)
    glance = np.array([rng.uniform(-0.05, 0.05), rng.uniform(-0.03, 0.05)])
    asleep = rng.random() < 0.06
    shapes = []
    for side in (-1, 1):
        eye = turned + np.array([side * apart, -0.14])
        if asleep:
            angle = np.linspace(0.15 * np.pi, 0.85 * np.pi, 12)
            lid = eye + looks.eye * np.stack([np.cos(angle), 0.6 * np.sin(angle)], axis=1)
            shapes.append(Shape(lid, outline, line=1.6))
            continue
        height = looks.eye * openness
        x, y = eye + glance
        shapes += [
            Shape(_ellipse(eye[0], eye[1], looks.eye, height, tilt=-0.25 * side), iris, outline),
            Shape(_ellipse(x, y, height * 0.7 * looks.pupil, height * 0.82), (24, 20, 24)),
            Shape(_ellipse(x - 0.06, y - 0.08, 0.045, 0.045), (252, 252, 252)),
        ]
    return shapes


def _muzzle(looks: Looks, turned: Points, fur: Colour, outline: Colour, rng: np.random.Generator) -> list[Shape]:
    x, y = turned * np.array([1.5, 1.0]) + np.array([0.0, 0.40 * looks.skull[1]])
    ink = _shade(outline, 0.6)
    shapes = []
    if rng.random() < 0.25:
        shapes.append(Shape(_ellipse(x, y + looks.muzzle * 0.85, 0.13, 0.2), TONGUE, ink))
    shapes.append(Shape(_ellipse(x, y, looks.muzzle, looks.muzzle * 0.8, power=2.2), fur))
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    narrowing = 1 - 0.35 * np.sin(angle)  # wide above, pointed below
    top, lip = y - looks.muzzle * 0.35, y + looks.muzzle * 0.3
    nose = np.stack([x + looks.nose * np.cos(angle) * narrowing, top + 0.72 * looks.nose * np.sin(angle)], axis=1)
    shapes.append(Shape(nose, _vary(NOSES[rng.integers(len(NOSES))], rng, 10)))
    shapes.append(Shape(np.array([[x, top + looks.nose * 0.7], [x, lip]]), ink, line=1.0))
    whisker_colour = (245, 242, 238) if rng.random() < 0.5 else (52, 46, 46)
    for side in (-1, 1):
        bow = np.linspace(0, np.pi * 0.8, 9)
        reach = looks.muzzle * 0.45
        mouth = np.stack([x + side * reach * (1 - np.cos(bow)) / 2, lip + reach * 0.4 * np.sin(bow)], axis=1)
        shapes.append(Shape(mouth, ink, line=1.0))
        for slope in (-0.22, 0.0, 0.22):
            start = np.array([x + side * looks.muzzle * 0.6, y + slope * 0.5])
            end = start + looks.whiskers * np.array([side, slope + rng.uniform(-0.08, 0.08)])
            if looks.whiskers:
                shapes.append(Shape(np.stack([start, end]), whisker_colour, line=0.8))
    return shapes


def _paint(image: Image.Image, shapes: list[Shape], place: Callable[[Points], Points]) -> None:
    draw = ImageDraw.Draw(image)
    pen = min(image.size) * 0.006
    for shape in shapes:
        corners = [(float(x), float(y)) for x, y in place(shape.points)]
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
    """Places the face. All faces cover the same share of the image, so that area doesn't predict the label."""
    width, height = size
    scale = min(size) * rng.uniform(0.58, 0.67) / extent
    centre = np.array([width * (0.5 + rng.normal(0, 0.022)), height * (0.54 + rng.normal(0, 0.022))])
    tilt = rng.normal(0.0, 0.08)
    stretch = np.array([rng.uniform(0.93, 1.07), 1.0])
    return lambda points: centre + scale * _turn(points * stretch, tilt)


def _clutter(
    draw: ImageDraw.ImageDraw, size: tuple[int, int], backdrop: Colour, count: int, rng: np.random.Generator
) -> None:
    """Draws shapes behind the face; some of them pointed or round like ears."""
    for _ in range(count):
        centre = rng.uniform(0, 1, 2) * np.array(size)
        radius = min(size) * rng.uniform(0.06, 0.35)
        kind = rng.integers(4)
        if kind == 0:
            points = _ellipse(0, 0, 1, rng.uniform(0.4, 1))
        elif kind == 1:
            points = np.array([[-0.7, 0.6], [0.0, -1.0], [0.7, 0.6]])
        elif kind == 2:
            points = np.array([[-1, -0.5], [1, -0.5], [1, 0.5], [-1, 0.5]])
        else:
            points = np.array([[-3, -0.12], [3, -0.12], [3, 0.12], [-3, 0.12]])
        corners = centre + radius * _turn(points, rng.uniform(0, 2 * np.pi))
        draw.polygon(
            [(float(x), float(y)) for x, y in corners],
            fill=_blend(backdrop, _random_colour(rng), rng.uniform(0.15, 0.55)),
        )


def _occlude(draw: ImageDraw.ImageDraw, size: tuple[int, int], rng: np.random.Generator) -> None:
    """Draws a leaf, a post or a ball in front of part of the image."""
    centre = rng.uniform(0.15, 0.85, 2) * np.array(size)
    kind = rng.integers(3)
    if kind == 0:
        points = _ellipse(0, 0, 0.11, 0.34)
    elif kind == 1:
        points = np.array([[-0.05, -2], [0.05, -2], [0.05, 2], [-0.05, 2]])
    else:
        points = _ellipse(0, 0, 0.15, 0.15)
    corners = centre + min(size) * rng.uniform(0.7, 1.2) * _turn(points, rng.uniform(0, np.pi))
    draw.polygon([(float(x), float(y)) for x, y in corners], fill=_random_colour(rng))


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


def _ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, power: float = 2.0) -> Points:
    """Outline of |x/rx|^power + |y/ry|^power = 1, turned by ``tilt`` radians."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    cos, sin = np.cos(angle), np.sin(angle)
    outline = np.stack(
        [rx * np.sign(cos) * np.abs(cos) ** (2 / power), ry * np.sign(sin) * np.abs(sin) ** (2 / power)],
        axis=1,
    )
    return np.asarray(np.array([x, y]) + _turn(outline, tilt))


def _curve(start: Points, end: Points, bulge: float) -> Points:
    """Nine points from ``start`` to ``end``, bent sideways by ``bulge``."""
    share = np.linspace(0, 1, 9)[:, None]
    along = end - start
    across = np.array([along[1], -along[0]])
    return np.asarray(start + share * along - 4 * share * (1 - share) * bulge * across)


def _turn(points: Points, angle: float) -> Points:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.asarray(points @ np.array([[cos, sin], [-sin, cos]]))


def _random_colour(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(40, 236, 3))
    return red, green, blue


def _backdrop(rng: np.random.Generator) -> Colour:
    red, green, blue = (int(value) for value in rng.integers(195, 251, 3))
    return red, green, blue


def _vary(colour: Colour, rng: np.random.Generator, spread: float) -> Colour:
    red, green, blue = (int(np.clip(value + rng.normal(0, spread), 0, 255)) for value in colour)
    return red, green, blue


def _blend(first: Colour, second: Colour, share: float) -> Colour:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def _shade(colour: Colour, factor: float) -> Colour:
    red, green, blue = (round(value * factor) for value in colour)
    return red, green, blue
