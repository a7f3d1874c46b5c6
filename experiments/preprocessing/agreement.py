"""Does each of torchvision's classifiers see here what torchvision itself would show it?

    python -m experiments.preprocessing.agreement PHOTO_FOLDER [--photos 4] [--names resnet18,vit_b_16] [--largest 10]

Shows photos to each network in two ways: decoded by Pillow and put through the ``transforms()`` of torchvision's DEFAULT
weights; and decoded, resized and normalised by Raylight from ``model=torchvision model.name=NAME`` alone. The network has
random weights of a fixed seed, the same both times, so that nothing is downloaded. Prints a Markdown table of the largest and
the mean difference of pixels (0 to 255), and of the largest of logits, in their standard deviations over the photos; once of
the photos as they are, and once as PNG, whose decoding leaves no choice: what remains there is the resizing's rounding. Ends
with exit code 1 where a pixel of a PNG differs by more than 1.
"""

import argparse
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torchvision import models

from raylight.config.schema import ModelConfig
from raylight.data.decode.image import decode_image
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing


@dataclass(frozen=True)
class Difference:
    """Between what Raylight and torchvision show a network.

    Attributes:
        largest: of pixels, 0 to 255.
        mean: of pixels.
        logits: the largest, in standard deviations of that logit over the photos; None where no network was run.
    """

    largest: float
    mean: float
    logits: float | None

    def __str__(self) -> str:
        """Cells of the table."""
        return f"{self.largest:.1f} | {self.mean:.3f} | {'' if self.logits is None else f'{self.logits:.4f}'}"


def differences(name: str, photos: list[bytes], *, with_logits: bool) -> tuple[Difference, Difference]:
    """What the photos and then their copies as PNG differ by.

    Args:
        name: of torchvision's classifier.
        photos: contents of image files, two at least.
        with_logits: build the network and run it.
    """
    config = ModelConfig(name=name, family="torchvision")
    preprocessing = Preprocessing.from_config(config)
    published = models.get_model_weights(name).DEFAULT.transforms()
    pictures = [Image.open(io.BytesIO(photo)).convert("RGB") for photo in photos]
    theirs = torch.stack([published(picture) for picture in pictures])
    shown = [_shown(photos, preprocessing), _shown(map(_as_png, pictures), preprocessing)]
    std = torch.tensor(preprocessing.std).reshape(3, 1, 1)
    apart = [(ours - theirs).abs() * std * 255 for ours in shown]
    logits: list[float | None] = [None, None]
    if with_logits:
        torch.manual_seed(0)
        network = (
            build_network(config, 10).eval().double()
        )  # at the random start signals fade far below float32's steps
        with torch.inference_mode():
            expected, *found = (network(images.double()) for images in (theirs, *shown))
        logits = [float(((those - expected).abs() / expected.std(dim=0)).max()) for those in found]
    jpeg, png = (Difference(float(p.max()), float(p.mean()), found) for p, found in zip(apart, logits, strict=True))
    return jpeg, png


def _shown(photos: Iterable[bytes], preprocessing: Preprocessing) -> torch.Tensor:
    pixels = np.stack([decode_image(photo, preprocessing.decode_spec) for photo in photos])
    return preprocessing.normalise(torch.from_numpy(pixels))


def _as_png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def table(names: list[str], photos: list[bytes], largest: float) -> Iterator[tuple[str, Difference]]:
    """Rows in Markdown, each with the difference of its PNG files.

    Args:
        names: of torchvision's classifiers.
        photos: contents of image files.
        largest: billions of multiplications per image of a network that is run.
    """
    for name in names:
        shown = Preprocessing.from_config(ModelConfig(name=name, family="torchvision"))
        jpeg, png = differences(name, photos, with_logits=_meta(name)["_ops"] <= largest)
        yield f"| {name} | {shown.resize_size} → {shown.size} {shown.interpolation} | {jpeg} | {png} |", png


def _meta(name: str) -> dict[str, Any]:
    meta: dict[str, Any] = models.get_model_weights(name).DEFAULT.meta
    return meta


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--names", default="", help="with commas between; all that torchvision has")
    parser.add_argument(
        "--largest", type=float, default=10, help="billions of multiplications per image of a network that is run"
    )
    asked = parser.parse_args()
    files = sorted(asked.folder.rglob("*.jpg"))
    photos = [file.read_bytes() for file in files[:: max(1, len(files) // asked.photos)][: asked.photos]]
    names = [name for name in asked.names.split(",") if name] or sorted(
        models.list_models(module=models), key=lambda name: _meta(name)["_ops"]
    )
    print("| network | input | JPEG: pixels, largest | mean | logits | PNG: pixels, largest | mean | logits |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    unequal = []
    for (row, png), name in zip(table(names, photos, asked.largest), names, strict=True):
        print(row, flush=True)
        unequal += [name] if png.largest > 1.01 else []
    if unequal:
        raise SystemExit(f"shown something else than torchvision shows: {', '.join(unequal)}")


if __name__ == "__main__":
    main()
