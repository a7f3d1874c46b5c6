"""Does each of torchvision's classifiers see here what torchvision itself would show it?

    python experiments/preprocessing/agreement.py PHOTO_FOLDER [--photos 4] [--names resnet18,vit_b_16] [--largest 100]

Shows photos to each network in two ways: decoded by Pillow and put through the ``transforms()`` of torchvision's DEFAULT
weights; and decoded, resized and normalised by Raylight from ``model=torchvision model.name=NAME`` alone. The network has
random weights of a fixed seed, the same both times, so that nothing is downloaded. Prints a Markdown table: largest and mean
difference of pixels on the scale 0 to 255, and the mean difference of logits in their standard deviations over the photos; the
same for the photos as PNG, whose decoding leaves no choice, so that what remains is the resizing's rounding.
"""

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision import models

from raylight.config.schema import ModelConfig
from raylight.data.decode.image import decode_image
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing


def differences(name: str, contents: list[bytes]) -> tuple[float, float, float]:
    """Of pixels, the largest and the mean (0 to 255), and of logits, the mean in standard deviations over the photos.

    Args:
        name: of torchvision's classifier.
        contents: of image files, two at least.
    """
    config = ModelConfig(name=name, family="torchvision")
    preprocessing = Preprocessing.from_config(config)
    published = models.get_model_weights(name).DEFAULT.transforms()
    theirs = torch.stack([published(Image.open(io.BytesIO(content)).convert("RGB")) for content in contents])
    pixels = np.stack([decode_image(content, preprocessing.decode_spec) for content in contents])
    ours = preprocessing.normalise(torch.from_numpy(pixels))
    torch.manual_seed(0)
    network = build_network(config, 10).eval().double()  # a random start lets the signal fade far below float32's steps
    with torch.inference_mode():
        expected, found = network(theirs.double()), network(ours.double())
    std = torch.tensor(preprocessing.std).reshape(3, 1, 1)
    apart = (ours - theirs).abs() * std * 255
    return float(apart.max()), float(apart.mean()), float(((found - expected).abs() / expected.std(dim=0)).mean())


def table(names: list[str], photos: list[bytes]) -> Iterator[str]:
    """Rows of the table, in Markdown."""
    plain = [_as_png(photo) for photo in photos]
    yield "| network | input | JPEG: pixels, largest | mean | logits | PNG: pixels, largest | mean | logits |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- |"
    for name in names:
        shown = Preprocessing.from_config(ModelConfig(name=name, family="torchvision"))
        jpeg, png = differences(name, photos), differences(name, plain)
        yield (
            f"| {name} | {shown.resize_size} → {shown.size} {shown.interpolation} "
            f"| {jpeg[0]:.0f} | {jpeg[1]:.2f} | {jpeg[2]:.4f} | {png[0]:.1f} | {png[1]:.3f} | {png[2]:.4f} |"
        )


def _as_png(content: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").save(stream, "PNG")
    return stream.getvalue()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=4)
    parser.add_argument("--names", default="")
    parser.add_argument("--largest", type=float, default=150, help="leave out networks of more million parameters")
    asked = parser.parse_args()
    files = sorted(asked.folder.rglob("*.jpg"))
    photos = [file.read_bytes() for file in files[:: max(1, len(files) // asked.photos)][: asked.photos]]
    names = [name for name in asked.names.split(",") if name] or [
        name
        for name in models.list_models(module=models)
        if models.get_model_weights(name).DEFAULT.meta["num_params"] <= asked.largest * 1e6
    ]
    for row in table(names, photos):
        print(row, flush=True)


if __name__ == "__main__":
    main()
