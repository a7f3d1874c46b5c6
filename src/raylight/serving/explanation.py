"""A run's prediction for one picture: class, probabilities, threshold and Grad-CAM; and test images to try.

Leaves out the page (``app``) and many pictures at once (``predict``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from raylight.data.decode.image import decode_image
from raylight.errors import RunError
from raylight.report.facts import Measured, RunFacts
from raylight.report.images import VIEW, OriginalFiles, heat_of, jpeg, overlaid
from raylight.report.model_card import render_model_card
from raylight.serving.predictor import Predictor
from raylight.serving.versions.opening import RUNS_OWN, Version


@dataclass(frozen=True)
class Explanation:
    """A run's prediction for a picture, explained.

    Attributes:
        predicted: the class.
        refused: why the picture gets no class (``Predictor.refusals``), else None.
        probabilities: calibrated, by class, the highest first.
        positive: the class that the threshold is for; None with more than two classes.
        threshold: ``positive`` is predicted where its probability is greater; None predicts the most probable class.
        picture: the network's view, enlarged, as a data URI.
        heat: the same overlaid with Grad-CAM for ``predicted``; None without one.
        no_heat: why there is no heat map, else None.
    """

    predicted: str
    refused: str | None
    probabilities: Mapping[str, float]
    positive: str | None
    threshold: float | None
    picture: str
    heat: str | None
    no_heat: str | None


@dataclass(frozen=True, eq=False)
class ServedRun:
    """A run that predicts single pictures.

    Attributes:
        predictor: its network.
        facts: the contents of its folder.
    """

    predictor: Predictor
    facts: RunFacts

    @classmethod
    def open(cls, run: Path, version: Version = RUNS_OWN) -> "ServedRun":
        """Open a run's folder.

        Args:
            run: the folder.
            version: how its network is computed.

        Raises:
            RefusedVersionError: the version can't be used for the run.
            UnusableRunError: not a run folder, one that hasn't finished, or a damaged one.
        """
        predictor = version.open(run)
        return cls(predictor, RunFacts(predictor.run))

    def explain(self, content: bytes) -> Explanation:
        """Predict a picture, with Grad-CAM.

        Args:
            content: of an image file.

        Raises:
            BadImageError: it isn't a usable image.
        """
        predictor = self.predictor
        pixels = decode_image(content, predictor.preprocessing.decode_spec)
        probabilities, given, refused = self._predicted(pixels)
        names = predictor.class_names
        view = decode_image(content, predictor.preprocessing.decode_spec.at(VIEW))
        heat = no_heat = None
        try:
            heat = jpeg(
                overlaid(view, heat_of(predictor.network, predictor.preprocessing, pixels[None], np.array([given]))[0])
            )
        except RunError as error:  # a network without a feature map
            no_heat = str(error)
        return Explanation(
            predicted=names[given],
            refused=refused,
            probabilities=probabilities,
            positive=predictor.positive_class if len(names) == 2 else None,
            threshold=predictor.threshold,
            picture=jpeg(view),
            heat=heat,
            no_heat=no_heat,
        )

    def answer(self, content: bytes) -> dict[str, Any]:
        """Predict a picture for programs, without images.

        Raises:
            BadImageError: it isn't a usable image.
        """
        probabilities, given, refused = self._predicted(decode_image(content, self.predictor.preprocessing.decode_spec))
        return {
            "run": self.predictor.run.path.name,
            "predicted": None if refused else self.predictor.class_names[given],
            **({"refused": refused} if self.predictor.refuses else {}),
            "probabilities": dict(probabilities),
            "positive": self.predictor.positive_class if len(self.predictor.class_names) == 2 else None,
            "threshold": self.predictor.threshold,
        }

    def _predicted(self, pixels: UInt8[np.ndarray, "height width 3"]) -> tuple[Mapping[str, float], int, str | None]:
        """Calibrated probabilities by class, the highest first, the class by the threshold, and why it isn't given."""
        (row,) = probabilities = self.predictor.probabilities(pixels[None])
        names = self.predictor.class_names
        ranked = {names[k]: float(row[k]) for k in np.argsort(-row, kind="stable")}
        refused = self.predictor.refusals(pixels[None], probabilities)[0]
        return ranked, int(self.predictor.decide(probabilities)[0]), refused

    @cached_property
    def accuracy(self) -> Measured | None:
        """Its accuracy on test; None if the folder has no results, which a model can be served without."""
        try:
            return self.facts.measured().get("accuracy")
        except RunError:
            return None

    @cached_property
    def card(self) -> str:
        """The run's model card, from its folder or rendered anew.

        Raises:
            RunError: there is none, and the folder's results are missing or broken.
        """
        path = self.predictor.run / "model_card.md"
        return path.read_text(encoding="utf-8") if path.is_file() else render_model_card(self.facts)


@dataclass(frozen=True)
class ExampleImage:
    """A test image whose class is known.

    Attributes:
        path: relative to the data's root.
        label: its class.
        content: of its file.
    """

    path: str
    label: str
    content: bytes


def example_images(runs: Sequence[ServedRun], most: int = 12, seed: int = 0) -> tuple[list[ExampleImage], str | None]:
    """Sample test images at random, balanced over the classes.

    Args:
        runs: only images in the test split of all of them, by content, are taken.
        most: maximum number of images.
        seed: of the sample.

    Returns:
        The images whose files are unchanged, and why there are fewer than possible, else None.

    Raises:
        UnusableRunError: a run's index can't be read.
    """
    splits = [run.predictor.test_images() for run in runs]
    shared = set.intersection(*(set(split.column("sha256")) for split in splits))
    first = splits[0]
    files = OriginalFiles(first, runs[0].predictor.preprocessing.decode_spec)
    rows = [
        (path, label)
        for path, label, digest in zip(first.column("path"), first.column("label"), first.column("sha256"), strict=True)
        if digest in shared
    ]
    if not rows:
        return [], "No image is in the test split of all runs; one run's test images may be another's training images."
    found: list[ExampleImage] = []
    for path, label in _in_turn(rows, most, seed):
        content = files.content(path)
        if content is not None:
            found.append(ExampleImage(path, label, content))
    return found, files.missing_words


def _in_turn(rows: Sequence[tuple[str, str]], most: int, seed: int) -> list[tuple[str, str]]:
    """Sample rows at random: one of each class, then a second of each, ..."""
    drawn = [sorted(rows)[i] for i in np.random.default_rng(seed).permutation(len(rows))]
    taken: dict[str, int] = {}
    order = []
    for position, (_, label) in enumerate(drawn):
        taken[label] = taken.get(label, 0) + 1
        order.append((taken[label], label, position))
    return [drawn[position] for _, _, position in sorted(order)[:most]]
