"""The images of the bench, split once by Raylight and laid out for every contender: folders and a table."""

import csv
import tempfile
from pathlib import Path

from raylight.pipeline.images import indexed
from raylight.pipeline.probing.networks import Candidate
from raylight.pipeline.probing.settings import probe_configs


def lay_out(settings: list[str], weights: Path, folder: Path) -> Path:
    """Split a data set and link its images as ``FOLDER/{train,val,test}/CLASS/FILE``.

    Args:
        settings: of the data, such as ``data=xray`` and ``data.root=PATH``; the split follows from them and the seed alone.
        weights: file of ResNet18's, which the settings' check asks for.
        folder: to be made; if it is there, it is kept as it is.

    Returns:
        The folder.
    """
    table = folder / "split.csv"
    if table.is_file():
        return folder
    with tempfile.TemporaryDirectory() as cache:
        (config,) = probe_configs([*settings, "seed=1"], [Candidate("resnet18", "torchvision", str(weights))])
        index = indexed(config, Path(cache)).usable()
    rows = []
    for path, label, split in zip(*(index.column(name) for name in ("path", "label", "split")), strict=True):
        place = Path(split) / label / Path(path).name
        (folder / place.parent).mkdir(parents=True, exist_ok=True)
        (folder / place).symlink_to(Path(str(index.root)) / path)
        rows.append((str(place), label, split))
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "split"), *sorted(rows)])
    return folder
