"""The image sets of the study: photos, films, and sets made from what scikit-learn and scikit-image ship.

Made sets are folders ``ROOT/{train,test}/CLASS/*.png``: what is tested on shares no source image with what is trained on.
Needs scikit-image, which is no dependency of the project: ``pip install scikit-image``.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

TEXTURES = ("brick", "grass", "gravel", "hubble_deep_field", "ihc")
PATCH = 64


def photo_table(photos: Path, per_class: int, file: Path, *, tested: int = 400) -> list[str]:
    """Settings for ``per_class`` photos to train and validate on, and ``tested`` others of each class to test on.

    Args:
        photos: folder with files such as ``cat.0.jpg``.
        per_class: photos of each class.
        file: the table to write.
        tested: photos of each class.
    """
    rows = []
    for label in ("cat", "dog"):
        names = sorted(path.name for path in photos.rglob(f"{label}.*.jpg"))
        np.random.default_rng(0).shuffle(names)
        rows += [(name, label, "test") for name in names[:tested]]
        rows += [(name, label, "train") for name in names[tested : tested + per_class]]
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *rows])
    folder = next(photos.rglob("cat.*.jpg")).parent
    return ["data=folder", f"data.name={file.stem}", f"data.root={folder}", f"data.csv={file}"]


def write_digits(root: Path) -> None:
    """Ten digits, 8 by 8 pixels, by their writers' order: the last 597 are tested."""
    images, targets = _digits()
    for place, (image, target) in enumerate(zip(images, targets, strict=True)):
        _save(image, root / ("train" if place < 1200 else "test") / str(target) / f"{place}.png")


def write_numbers(root: Path) -> None:
    """Sixty numbers, 00 to 59, of two digits side by side: 20 images each to train on, 10 to test on, of other writers."""
    images, targets = _digits()
    draw = np.random.default_rng(0)
    for split, pool, count in (("train", slice(0, 1200), 20), ("test", slice(1200, None), 10)):
        of_digit = [images[pool][targets[pool] == digit] for digit in range(10)]
        for number in range(60):
            for place in range(count):
                pair = [of_digit[digit][draw.integers(len(of_digit[digit]))] for digit in divmod(number, 10)]
                _save(np.concatenate(pair, axis=1), root / split / f"{number:02d}" / f"{place}.png")


def write_textures(root: Path) -> None:
    """Five textures, patches of 64 by 64 pixels: of each picture the left three quarters to train on, the right to test on."""
    from skimage.data import data_dir

    for name in TEXTURES:
        file = next(Path(data_dir).glob(f"{name}.*"))
        picture = np.asarray(Image.open(file).convert("RGB").resize((512, 512)))
        for y, x in np.ndindex(8, 8):
            patch = picture[y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH]
            _save(patch, root / ("train" if x < 6 else "test") / name / f"{y}_{x}.png")


def write_faces(root: Path) -> None:
    """A hundred faces and a hundred other patches of 25 by 25 pixels; every fifth is tested."""
    from skimage.data import data_dir

    for place, image in enumerate(np.load(Path(data_dir) / "lfw_subset.npy")):
        label = "face" if place < 100 else "other"
        _save(np.rint(image * 255), root / ("test" if place % 5 == 0 else "train") / label / f"{place}.png")


WRITERS = {"digits": write_digits, "numbers": write_numbers, "textures": write_textures, "faces": write_faces}


def all_sets(photos: Path, films: Path, out: Path) -> Iterator[tuple[str, list[str]]]:
    """Each set's name and the settings that read it.

    Args:
        photos: cats and dogs as flat files.
        films: the X-ray set.
        out: folder for the sets that are made, on first use.
    """
    out.mkdir(parents=True, exist_ok=True)
    for per_class in (50, 200, 600):
        yield f"photos_{2 * per_class}", photo_table(photos, per_class, out / f"photos_{2 * per_class}.csv")
    yield "films", ["data=xray", f"data.root={films}"]
    for name, write in WRITERS.items():
        if not (out / name).is_dir():
            write(out / name)
        yield name, ["data=folder", f"data.name={name}", f"data.root={out / name}"]
    yield "demo_200", ["data=demo", "data.limit=100", "data.test_fraction=0.2"]
    yield "demo_600", ["data=demo", "data.test_fraction=0.2"]


def _digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    found = load_digits()
    return found.images / 16 * 255, found.target


def _save(values: np.ndarray, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(values, np.uint8)).save(file)
