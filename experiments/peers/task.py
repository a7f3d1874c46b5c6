"""What every contender is asked to do: the same images, split, weights and, in the mode ``equal``, settings.

Imports nothing but the standard library, since it runs in every peer's environment.
"""

import csv
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Task:
    """One training with its test.

    Attributes:
        data: folder with ``{train,val,test}/CLASS/`` and ``split.csv`` (path, label, split).
        scratch: an empty folder for whatever the contender writes.
        predictions: the file to write: a row per test image.
        network: torchvision's name of it.
        weights: its state dict from ImageNet, with the names of torchvision (timm's ResNet18 has the same).
        mode: ``default``: as the contender's documentation shows; ``equal``: with the values below, all layers trained.
        epochs: passes over the training images.
        batch_size: images per step.
        learning_rate: of Adam or AdamW, at its highest.
        image_size: pixels per side of what enters the network.
        seed: of weights, order and augmentation.
        seconds: how long the contender may take; given to those that have such a setting.
    """

    data: str
    scratch: str
    predictions: str
    network: str
    weights: str
    mode: str
    epochs: int
    batch_size: int
    learning_rate: float
    image_size: int
    seed: int
    seconds: float

    @classmethod
    def from_command_line(cls) -> "Task":
        """The task in the file that the command names."""
        return cls(**json.loads(Path(sys.argv[1]).read_text()))

    def write(self, file: Path) -> Path:
        """Write it for ``from_command_line``."""
        file.write_text(json.dumps(asdict(self), indent=2))
        return file

    @property
    def is_equal(self) -> bool:
        """Whether the values of the task are to be used."""
        return self.mode == "equal"

    def labelled(self, *splits: str) -> list[tuple[str, str]]:
        """Absolute path and label of each image of some splits."""
        with (Path(self.data) / "split.csv").open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["split"] in splits]
        return [(str(Path(self.data) / row["path"]), row["label"]) for row in rows]

    def write_predictions(self, predictions: Iterable[tuple[str, str]]) -> None:
        """Write path and predicted label of each test image."""
        with Path(self.predictions).open("w", newline="") as stream:
            csv.writer(stream).writerows([("path", "predicted"), *predictions])


def correct(predictions: Path, data: Path) -> tuple[int, int]:
    """Count the test images that were classified correctly.

    Args:
        predictions: file with ``path`` and ``predicted``; paths end in ``test/CLASS/FILE``; it may have rows of other splits,
            which are ignored.
        data: the task's folder of images.

    Returns:
        Correct images and all test images.

    Raises:
        ValueError: a test image has no prediction, or two.
    """
    with (data / "split.csv").open(newline="") as stream:
        truth = {row["path"]: row["label"] for row in csv.DictReader(stream) if row["split"] == "test"}
    with predictions.open(newline="") as stream:
        found = [("/".join(Path(row["path"]).parts[-3:]), row["predicted"]) for row in csv.DictReader(stream)]
    tested = [(path, label) for path, label in found if path in truth]
    if len(tested) != len(truth) or {path for path, _ in tested} != set(truth):
        raise ValueError(f"{predictions}: {len(tested)} predictions of {len(truth)} test images")
    return sum(truth[path] == label for path, label in tested), len(truth)
