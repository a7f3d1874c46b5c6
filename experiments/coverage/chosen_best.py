"""What choosing flatters, by simulation: the best of equal configurations, and the best epoch of each fold.

Equal configurations are all right on 90 % of new images, and share what makes an image hard (``recipes``): the best of them
on the validation images isn't better than the others. The estimate printed is that of ``differences.selection``. Folds are of
images with random labels, on which a logistic regression is trained by gradient descent; the truth is an accuracy of one half.
"""

from dataclasses import dataclass

import numpy as np
from experiments.coverage.recipes import ACCURACY, right_images
from jaxtyping import Float, Int

from raylight.comparison.replicates import joined
from raylight.evaluation.differences.selection import selection_optimism
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import Predictions

CONFIGURATIONS = ((5, 40), (20, 40), (20, 200), (20, 1000))
"""How many are equal, and the validation images that choose."""

FOLDS, EPOCHS, FEATURES = 5, 20, 20
"""Of the cross-validations."""


@dataclass(frozen=True)
class Flattery:
    """What the best of equal configurations gains by having been chosen.

    Attributes:
        true: mean of its validation accuracy less what it is on new images.
        estimated: mean of the estimate that is printed.
        error: Monte-Carlo standard error of the difference of the two.
    """

    true: float
    estimated: float
    error: float


@dataclass(frozen=True)
class RandomLabels:
    """Cross-validated accuracy where labels are random.

    Attributes:
        mean: over repeats.
        error: its Monte-Carlo standard error.
        excluding: share of the intervals that exclude one half.
    """

    mean: float
    error: float
    excluding: float


def flattery(candidates: int, n: int, repeats: int) -> Flattery:
    """Choose the best of equal configurations, many times."""
    rng = np.random.default_rng([candidates, n])
    true, estimated = np.empty(repeats), np.empty(repeats)
    for i in range(repeats):
        right = right_images(rng, n, 1, 0.0, candidates)[:, 0].T.astype(float)
        true[i] = right.mean(axis=0).max() - ACCURACY
        estimated[i] = selection_optimism(right, right, n_resamples=200)
    error = float((estimated - true).std(ddof=1)) / repeats**0.5
    return Flattery(float(true.mean()), float(estimated.mean()), error)


def random_labels(n: int, repeats: int, at_best: bool = False) -> RandomLabels:
    """Cross-validate on random labels, many times.

    Args:
        n: images, half of them of each class.
        repeats: cross-validations.
        at_best: join each fold at the epoch of its best accuracy on the images held out, instead of the last one.
    """
    rng = np.random.default_rng(n)
    accuracies, excluded = np.empty(repeats), 0
    for i in range(repeats):
        labels = rng.permutation(np.arange(n) % 2)
        features = rng.normal(size=(n, FEATURES))
        fold = np.empty(n, np.int64)
        for k in (0, 1):
            members = rng.permutation(np.flatnonzero(labels == k))
            fold[members] = np.arange(len(members)) % FOLDS
        parts = [_held_out(features, labels, fold == number, at_best) for number in range(FOLDS)]
        accuracy = evaluate(joined(parts, calibrate=True), n_resamples=2)["accuracy"]
        accuracies[i] = accuracy.value
        excluded += not accuracy.low <= 0.5 <= accuracy.high
    return RandomLabels(float(accuracies.mean()), float(accuracies.std(ddof=1)) / repeats**0.5, excluded / repeats)


def _held_out(
    features: Float[np.ndarray, "image feature"],
    labels: Int[np.ndarray, " image"],
    held: np.ndarray,
    at_best: bool,
) -> Predictions:
    """The images held out, as the network of one epoch sees them."""
    weights, seen = np.zeros(FEATURES), []
    for _ in range(EPOCHS):
        probability = 1 / (1 + np.exp(-features[~held] @ weights))
        weights += 2.0 * (labels[~held] - probability) @ features[~held] / (~held).sum()
        seen.append(1 / (1 + np.exp(-features[held] @ weights)))
    accuracies = [((one > 0.5) == labels[held]).mean() for one in seen]
    probability = seen[int(np.argmax(accuracies)) if at_best else -1]
    names = [str(i) for i in np.flatnonzero(held)]
    pairs = np.stack([1 - probability, probability], axis=1)
    return Predictions(names, ["val"] * len(names), labels[held], pairs, ("cat", "dog"), "dog")
