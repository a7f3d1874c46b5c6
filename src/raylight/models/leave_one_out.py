"""Leave-one-out predictions of ridge regression on features, in closed form.

Least squares on class indicators, with an unpenalised intercept. Its fitted values are H Y, so that the
residuals of a left-out set S are (I - H_SS)^-1 (Y - H Y)_S (Allen 1974; Cook and Weisberg 1982): one decomposition serves all
penalties and all images, without refitting. Not here: how features are computed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int64
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax

RATIOS = tuple(10.0 ** (power / 2) for power in range(-8, 9))
"""Candidates of the penalty, as multiples of the mean squared norm of the centred, scaled features of an image."""
_NEVER_VARIES = 1e-12


@dataclass(frozen=True, eq=False)
class LeftOut:
    """Leave-one-out predictions of all images.

    Attributes:
        scores: of each class, by a model without the image and those of its group; near 1 for the class, 0 for the others.
        penalty: the multiple with the smallest squared error on left-out images, one of ``RATIOS``.
        error: that squared error, a mean over images and classes.
    """

    scores: Float[np.ndarray, "image class"]
    penalty: float
    error: float

    def right(self, targets: Int64[np.ndarray, " image"]) -> Bool[np.ndarray, " image"]:
        """Whether the class with the highest score is the label, per image."""
        return np.asarray(self.scores.argmax(axis=1) == targets)


def leave_one_out(
    features: Float[np.ndarray, "image feature"],
    targets: Int64[np.ndarray, " image"],
    n_classes: int,
    groups: Int64[np.ndarray, " image"] | None = None,
) -> LeftOut:
    """Scores of every image by ridge regression on the others, with the penalty that is best for left-out images.

    Features are scaled to unit variance, over all images: that takes no class into account.

    Args:
        features: of each image.
        targets: class number of each image.
        n_classes: number of classes.
        groups: group number of each image; a group is left out as a whole. ``None`` leaves out one image at a time.

    Returns:
        The scores, the penalty and its error.

    Raises:
        ValueError: all images are of one group, so that nothing is left to fit on.

    Example:
        >>> features = np.array([[0.0], [1.0], [2.0], [7.0], [8.0], [9.0]])
        >>> leave_one_out(features, np.repeat([0, 1], 3), 2).scores.argmax(axis=1).tolist()
        [0, 0, 0, 1, 1, 1]
    """
    return _solved(_Decomposed.of(features), targets, n_classes, groups)


def head_of(
    features: Float[np.ndarray, "image feature"],
    targets: Int64[np.ndarray, " image"],
    n_classes: int,
    groups: Int64[np.ndarray, " image"] | None = None,
) -> Callable[[Float[np.ndarray, "other feature"]], Float[np.ndarray, "other class"]]:
    """Fit a head on all images, with the penalty of ``leave_one_out``.

    Args:
        features: as for ``leave_one_out``.
        targets: likewise.
        n_classes: likewise.
        groups: likewise.

    Returns:
        A function from features to scores.

    Raises:
        ValueError: all images are of one group.
    """
    parts = _Decomposed.of(features)
    ratio = _solved(parts, targets, n_classes, groups).penalty
    truth = np.eye(n_classes)[targets]
    shrunk = parts.basis.T @ truth / (parts.squares + ratio * parts.squares.sum() / len(targets))[:, None]
    weight = parts.scaled.T @ (parts.basis @ shrunk) / parts.scale[:, None]
    return lambda others: (others - parts.mean) @ weight + truth.mean(axis=0)


@dataclass(frozen=True, eq=False)
class _Decomposed:
    """Centred and scaled features with their left singular vectors."""

    mean: Float[np.ndarray, " feature"]
    scale: Float[np.ndarray, " feature"]
    scaled: Float[np.ndarray, "image feature"]
    basis: Float[np.ndarray, "image component"]
    squares: Float[np.ndarray, " component"]

    @classmethod
    def of(cls, features: Float[np.ndarray, "image feature"]) -> Self:
        scaled = features.astype(np.float64)
        mean = scaled.mean(axis=0)
        scaled -= mean
        scale = scaled.std(axis=0)
        scale[scale < _NEVER_VARIES] = 1.0
        scaled /= scale
        return cls(mean, scale, scaled, *_principal(scaled))


def _solved(
    parts: _Decomposed, targets: Int64[np.ndarray, " image"], n_classes: int, groups: Int64[np.ndarray, " image"] | None
) -> LeftOut:
    n, basis, squares = len(targets), parts.basis, parts.squares
    together = _of_several(groups)
    if n < 2 or any(len(members) == n for members in together):
        raise ValueError("all images are of one group: nothing is left to fit on")
    weighted = basis**2
    truth = np.eye(n_classes)[targets]
    mean = truth.mean(axis=0)
    projected = basis.T @ (truth - mean)
    best: LeftOut | None = None
    for ratio in RATIOS:
        share = squares / (squares + ratio * squares.sum() / n)
        residuals = truth - mean - basis @ (share[:, None] * projected)
        kept = 1 - 1 / n - weighted @ share
        left_out = residuals / np.maximum(kept, _NEVER_VARIES)[:, None]
        for members in together:
            rows = basis[members]
            hat = (rows * share) @ rows.T + 1 / n
            left_out[members] = np.linalg.solve(np.eye(len(members)) - hat, residuals[members])
        error = float((left_out**2).mean())
        if best is None or error < best.error:
            best = LeftOut(truth - left_out, ratio, error)
    assert best is not None
    return best


def probabilities_of(left_out: LeftOut, targets: Int64[np.ndarray, " image"]) -> Float[np.ndarray, "image class"]:
    """Turn scores into probabilities: softmax at the temperature with the smallest cross-entropy of the labels.

    Args:
        left_out: leave-one-out predictions.
        targets: class number of each image, as it is labelled.

    Returns:
        A row per image; rows add up to 1.
    """

    def cross_entropy(log_temperature: float) -> float:
        return -float(
            log_softmax(left_out.scores / np.exp(log_temperature), axis=1)[np.arange(len(targets)), targets].mean()
        )

    found = minimize_scalar(cross_entropy, bounds=(-7.0, 3.0), method="bounded")
    probabilities: Float[np.ndarray, "image class"] = softmax(left_out.scores / np.exp(found.x), axis=1)
    return probabilities


def _principal(
    centred: Float[np.ndarray, "image feature"],
) -> tuple[Float[np.ndarray, "image component"], Float[np.ndarray, " component"]]:
    """Left singular vectors and squared singular values, by the smaller of the two products of the matrix with itself."""
    n, d = centred.shape
    if d < n:
        squares, vectors = eigh(centred.T @ centred)
        used = squares > squares[-1] * 1e-10
        return centred @ (vectors[:, used] / np.sqrt(squares[used])), squares[used]
    squares, basis = eigh(centred @ centred.T)
    used = squares > squares[-1] * 1e-10
    return basis[:, used], squares[used]


def _of_several(groups: Int64[np.ndarray, " image"] | None) -> list[Int64[np.ndarray, " member"]]:
    """The images of each group that has more than one."""
    if groups is None:
        return []
    order = np.argsort(groups, kind="stable")
    cuts = np.flatnonzero(np.diff(groups[order])) + 1
    return [members for members in np.split(order, cuts) if len(members) > 1]
