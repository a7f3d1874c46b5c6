"""The predictions of a run, as a value and as ``predictions.csv``.

Covers decisions from probabilities, and reading and writing the table without loss of precision.
Not here: everything that is computed from predictions (metrics, calibration, plots).
"""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from raylight.errors import RunError
from raylight.storage.atomic import atomic_file
from raylight.storage.tables import csv_rows

UNKNOWN = -1
"""Label of an unlabelled image."""


@dataclass(frozen=True, eq=False)
class Predictions:
    """A model's probabilities for images, with their labels.

    Attributes:
        paths: of the image files, relative to the data's root, with ``/``.
        splits: ``train``, ``val`` or ``test`` of each image.
        labels: position in ``class_names``, or ``UNKNOWN``.
        probabilities: of each class, rows sum to 1.
        class_names: in the order of the columns of ``probabilities``.
        positive_class: the class that recall, AUROC and others, and the decision threshold refer to.
        groups: patient (or object) of each image; ``None`` for an image of no group, or as a whole if the data has no
            groups.

    Raises:
        ValueError: lengths differ, a label or the positive class doesn't exist, or values aren't probabilities.
    """

    paths: Sequence[str]
    splits: Sequence[str]
    labels: Int[np.ndarray, " image"]
    probabilities: Float[np.ndarray, "image class"]
    class_names: tuple[str, ...]
    positive_class: str
    groups: Sequence[str | None] | None = None

    def __post_init__(self) -> None:
        n = len(self.paths)
        if self.probabilities.shape != (n, len(self.class_names)):
            raise ValueError(
                f"{n} images of {len(self.class_names)} classes need probabilities of shape "
                f"({n}, {len(self.class_names)}), not {self.probabilities.shape}"
            )
        if len(self.splits) != n or self.labels.shape != (n,) or len(self.groups or self.paths) != n:
            raise ValueError(f"splits, labels and groups must have one entry for each of the {n} images")
        if self.positive_class not in self.class_names:
            raise ValueError(f"positive class {self.positive_class!r} is none of {', '.join(self.class_names)}")
        if n and not UNKNOWN <= self.labels.min() <= self.labels.max() < len(self.class_names):
            raise ValueError(f"labels must lie between {UNKNOWN} and {len(self.class_names) - 1}")
        sums = self.probabilities.sum(axis=1)
        # 1e-3 allows for bfloat16's rounding of a sum of 1; NaN fails both comparisons.
        if not (np.all(self.probabilities >= 0) and np.all(np.abs(sums - 1) < 1e-3)):
            raise ValueError("probabilities must be at least 0 and sum to 1 for each image")
        if self.groups is not None and all(group is None for group in self.groups):
            object.__setattr__(self, "groups", None)

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def positive(self) -> int:
        """Position of the positive class."""
        return self.class_names.index(self.positive_class)

    def predicted(self, threshold: float | None = None) -> Int[np.ndarray, " image"]:
        """Predicted class of each image: see ``decide``.

        Args:
            threshold: decision threshold of two classes, 0 to 1; ``None`` stands for 0.5.

        Returns:
            Positions in ``class_names``.

        Raises:
            ValueError: a threshold with more than two classes.
        """
        return decide(self.probabilities, self.positive, threshold)

    def labelled(self, threshold: float | None = None) -> "LabelledPredictions":
        """The labelled images, as arrays for evaluation.

        Args:
            threshold: decision threshold of two classes, 0 to 1; ``None`` stands for 0.5.

        Returns:
            Their labels, probabilities (float64), decisions and groups.

        Raises:
            ValueError: no labelled image.
        """
        known = self.labels != UNKNOWN
        if not known.any():
            raise ValueError("no image of known class to evaluate")
        images = self if known.all() else self.where(known)
        return LabelledPredictions(
            images.labels.astype(np.int64),
            images.probabilities.astype(np.float64),
            images.predicted(threshold),
            images.positive,
            group_numbers(images.groups),
        )

    def where(self, mask: Bool[np.ndarray, " image"]) -> "Predictions":
        """Selects images.

        Args:
            mask: true for the images to keep.

        Returns:
            Predictions of these images, in the same order.
        """
        return replace(
            self,
            paths=tuple(compress(self.paths, mask)),
            splits=tuple(compress(self.splits, mask)),
            labels=self.labels[mask],
            probabilities=self.probabilities[mask],
            groups=None if self.groups is None else tuple(compress(self.groups, mask)),
        )

    def subset(self, split: str) -> "Predictions":
        """Selects the images of one split.

        Args:
            split: ``train``, ``val`` or ``test``.

        Returns:
            Predictions of these images, in the same order; maybe of none.
        """
        return self.where(np.array([name == split for name in self.splits], dtype=bool))


@dataclass(frozen=True, eq=False)
class LabelledPredictions:
    """Predictions of labelled images, as arrays for evaluation.

    Attributes:
        labels: true class of each image.
        probabilities: of each class.
        predicted: predicted class of each image.
        positive: position of the positive class; ignored with more than two classes.
        groups: group number of each image; ``None`` if images are independent.
    """

    labels: Int[np.ndarray, " image"]
    probabilities: Float[np.ndarray, "image class"]
    predicted: Int[np.ndarray, " image"]
    positive: int
    groups: Int[np.ndarray, " image"] | None

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.probabilities.shape[1])

    def confidences(self) -> tuple[Float[np.ndarray, " image"], Bool[np.ndarray, " image"]]:
        """A probability per image for calibration, and whether its class is the label.

        Two classes: the probability of the positive class. More classes: of the most probable class.

        Returns:
            Probabilities, 0 to 1, and whether the class that each is about is the true one.
        """
        if self.n_classes == 2:
            return self.probabilities[:, self.positive], self.labels == self.positive
        return self.probabilities.max(axis=1), self.probabilities.argmax(axis=1) == self.labels


def group_numbers(groups: Iterable[str | None] | None) -> Int[np.ndarray, " image"] | None:
    """Numbers groups from 0 in the order of their first image; an image without a group is one of its own.

    Args:
        groups: name of the group of each image; ``None`` for an image without one, or as a whole if there are no groups.

    Returns:
        The number of each image's group; ``None`` where no group has two images.

    Example:
        >>> group_numbers(["a", None, "a", None]), group_numbers(["a", None, "b"])
        (array([0, 1, 0, 2]), None)
    """
    if groups is None:
        return None
    seen: dict[object, int] = {}
    numbers = [seen.setdefault(i if group is None else group, len(seen)) for i, group in enumerate(groups)]
    return None if len(seen) == len(numbers) else np.array(numbers, np.int64)


def decide(
    probabilities: Float[np.ndarray, "image class"], positive: int, threshold: float | None = None
) -> Int[np.ndarray, " image"]:
    """Predicted classes from probabilities.

    Two classes: the positive one if its probability is *greater* than ``threshold`` (as in torchmetrics), so that a tie goes
    to the negative class. More classes: the most probable one, a tie to the first; no threshold applies.

    Args:
        probabilities: of each class.
        positive: position of the positive class; ignored with more than two classes.
        threshold: 0 to 1; ``None`` stands for 0.5.

    Returns:
        The position of a class per image.

    Raises:
        ValueError: a threshold with more than two classes.

    Example:
        >>> decide(np.array([[0.5, 0.5], [0.2, 0.8]]), positive=1)
        array([0, 1])
    """
    n_classes = probabilities.shape[1]
    if n_classes == 2:
        chosen = probabilities[:, positive] > (0.5 if threshold is None else threshold)
        return np.where(chosen, positive, 1 - positive).astype(np.int64)
    if threshold is not None:
        raise ValueError(f"a decision threshold needs two classes, not {n_classes}")
    most_probable: Int[np.ndarray, " image"] = probabilities.argmax(axis=1)
    return most_probable


def write_csv(predictions: Predictions, path: Path, threshold: float | None = None) -> None:
    """Write ``predictions.csv``: path, split, label, predicted, ``p_<class>`` for each class.

    A last column ``group`` follows if the data has groups. Numbers read back as the same float64. The
    file appears whole or not at all.

    Args:
        predictions: what to write.
        path: file to write or replace; its folder must exist.
        threshold: decision threshold for the column ``predicted``.
    """
    names = predictions.class_names
    header = ["path", "split", "label", "predicted", *(f"p_{name}" for name in names)]
    groups = predictions.groups
    if groups is not None:
        header.append("group")
    # surrogateescape: file names on Linux are bytes, and needn't be valid UTF-8.
    with (
        atomic_file(path) as temporary,
        temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        write = csv_rows(file)
        write(header)
        labels, predicted = predictions.labels.tolist(), predictions.predicted(threshold).tolist()
        for i, numbers in enumerate(predictions.probabilities.astype(np.float64).tolist()):
            label = "" if labels[i] == UNKNOWN else names[labels[i]]
            row = [predictions.paths[i], predictions.splits[i], label, names[predicted[i]], *map(repr, numbers)]
            if groups is not None:
                row.append(groups[i] or "")
            write(row)


def read_csv(path: Path, positive_class: str | None = None) -> Predictions:
    """Read what ``write_csv`` wrote.

    Args:
        path: the file.
        positive_class: ``None`` for the last class of the table.

    Returns:
        The table; probabilities are the same float64 that were written.

    Raises:
        RunError: no such file, or not a table of predictions; says which line and why.
    """
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            rows = list(csv.reader(file))
    except OSError as error:
        raise RunError(f"can't read the predictions {path}: {error.strerror}") from error
    header = rows[0] if rows else []
    classes = [i for i, name in enumerate(header) if name.startswith("p_")]
    names = tuple(header[i][2:] for i in classes)
    if header[:4] != ["path", "split", "label", "predicted"] or len(names) < 2:
        raise RunError(
            f"{path} isn't a table of predictions: its first line should read "
            f"path,split,label,predicted,p_<class>,..., not {','.join(header)!r}"
        )
    positive = names[-1] if positive_class is None else positive_class
    if positive not in names:
        raise RunError(f"{path} has no class {positive!r}; it has {', '.join(names)}")
    positions = {"": UNKNOWN, **{name: i for i, name in enumerate(names)}}
    labels = np.empty(len(rows) - 1, np.int64)
    probabilities = np.empty((len(rows) - 1, len(names)), np.float64)
    for i, row in enumerate(rows[1:]):
        try:
            labels[i] = positions[row[2]]
            probabilities[i] = [float(row[column]) for column in classes]
        except (KeyError, ValueError, IndexError) as error:
            raise RunError(f"{path}, image {i + 1}: {row!r} doesn't fit the columns {','.join(header)}") from error
    try:
        return Predictions(
            paths=tuple(row[0] for row in rows[1:]),
            splits=tuple(row[1] for row in rows[1:]),
            labels=labels,
            probabilities=probabilities,
            class_names=names,
            positive_class=positive,
            groups=tuple(row[-1] or None for row in rows[1:]) if header[-1] == "group" else None,
        )
    except ValueError as error:
        raise RunError(f"{path}: {error}") from error
