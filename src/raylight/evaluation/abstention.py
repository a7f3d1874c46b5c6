"""Selective classification: a confidence below which a model gives no answer, so that its answers are right often enough.

Learn then test (Angelopoulos, Bates, Candès, Jordan and Lei 2021): on validation, the hypothesis "fewer than TARGET of the
answers are right" is tested for one number of answers after another, the most confident first, by the exact binomial test, in a
fixed sequence from several starts that share the error probability. Images of a group count as one, right if all its answers
are.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float
from scipy.special import bdtr, expit, logit

from raylight.evaluation import intervals
from raylight.evaluation.intervals import Interval
from raylight.evaluation.predictions import LabelledPredictions

RISK = 0.05
"""Probability, over validation sets, that fewer of the answers are right than guaranteed."""

TOLERATED = (0, 2, 5)
"""Mistakes among the most confident answers that each sequence tolerates at its start, where there are images enough."""

_EDGE = 1e-12


@dataclass(frozen=True)
class Abstention:
    """The confidence from which on a model answers.

    Attributes:
        target: share of the answers that has to be right, with 95 % confidence.
        confidence: smallest confidence that is answered; None where nothing can be guaranteed, and no answer is given.
        answered: share of the validation images that are answered.
        n: validation images, or groups of them.
        needed: smallest number of them that could guarantee it without a mistake.
    """

    target: float
    confidence: float | None
    answered: float
    n: int
    needed: int


@dataclass(frozen=True)
class Answered:
    """Test images under an abstention rule.

    Attributes:
        chosen: the rule.
        n: test images that are answered.
        total: test images.
        right: share of the answers that is right; NaN without answers.
        interval: of ``right``, 95 %.
    """

    chosen: Abstention
    n: int
    total: int
    right: float
    interval: Interval

    def as_json(self) -> dict[str, Any]:
        """The entry in ``metrics.json``."""
        return {
            "target": self.chosen.target,
            "confidence": self.chosen.confidence,
            "val_answered": self.chosen.answered,
            "val_n": self.chosen.n,
            "val_needed": self.chosen.needed,
            "test_answered": self.n / self.total,
            "test_right": {"value": self.right, "low": self.interval.low, "high": self.interval.high, "n": self.n},
        }

    def sentence(self) -> str:
        """The guarantee and the result on test, for reports and the terminal."""
        chosen = self.chosen
        if chosen.confidence is None:
            return (
                f"decision.abstain={chosen.target:g} can't be guaranteed by {chosen.n} validation images: it needs at least "
                f"{chosen.needed}, and hardly a mistake among the most confident. No image is answered; lower "
                "decision.abstain or raise data.val_fraction."
            )
        return (
            f"Answers {self.n / self.total:.0%} of the test images, {self.right:.3f} of them correctly "
            f"({self.interval.low:.3f} to {self.interval.high:.3f}, n = {self.n}); guaranteed with 95 % confidence: "
            f"{chosen.target:g}, except for the optimism of having chosen the epoch on the same validation images."
        )


def confidence_of(
    probabilities: Float[np.ndarray, "image class"], positive: int, threshold: float | None = None
) -> Float[np.ndarray, " image"]:
    """The confidence of each decision, 0.5 to 1 (two classes) or 1 / classes to 1.

    Two classes: the distance from the decision threshold, as a probability; at a threshold of 0.5, the probability of the
    predicted class. More classes: the highest probability.

    Args:
        probabilities: of each class, rows summing to 1.
        positive: position of the positive class.
        threshold: of two classes, 0 to 1; None stands for 0.5.

    Returns:
        A confidence per image.

    Example:
        >>> confidence_of(np.array([[0.1, 0.9], [0.6, 0.4]]), positive=1).round(3)
        array([0.9, 0.6])
        >>> confidence_of(np.array([[0.9, 0.1], [0.6, 0.4]]), positive=1, threshold=0.1).round(3)
        array([0.5  , 0.857])
    """
    if probabilities.shape[1] > 2:
        highest: Float[np.ndarray, " image"] = probabilities.max(axis=1)
        return highest
    of_positive = np.clip(probabilities[:, positive].astype(np.float64), _EDGE, 1 - _EDGE)
    at = np.clip(0.5 if threshold is None else threshold, _EDGE, 1 - _EDGE)
    sure: Float[np.ndarray, " image"] = expit(np.abs(logit(of_positive) - logit(at)))
    return sure


def answers(
    probabilities: Float[np.ndarray, "image class"],
    positive: int,
    threshold: float | None,
    confidence: float | None,
) -> Bool[np.ndarray, " image"]:
    """Whether each image is answered.

    Args:
        probabilities: of each class, rows summing to 1.
        positive: position of the positive class.
        threshold: of two classes, 0 to 1; None stands for 0.5.
        confidence: smallest confidence that is answered; None answers no image.

    Returns:
        One value per image.

    Example:
        >>> answers(np.array([[0.1, 0.9], [0.6, 0.4]]), positive=1, threshold=None, confidence=0.8)
        array([ True, False])
    """
    if confidence is None:
        return np.zeros(len(probabilities), dtype=bool)
    sure: Bool[np.ndarray, " image"] = confidence_of(probabilities, positive, threshold) >= confidence
    return sure


def answered_of(chosen: Abstention, test: LabelledPredictions, threshold: float | None) -> Answered:
    """Applies an abstention rule to test images.

    Args:
        chosen: on validation.
        test: with decisions by ``threshold``.
        threshold: decision threshold of two classes, 0 to 1; None stands for 0.5.

    Returns:
        How many are answered, and how many of the answers are right.
    """
    given = answers(test.probabilities, test.positive, threshold, chosen.confidence)
    right = test.predicted == test.labels
    share = float(right[given].mean()) if given.any() else np.nan
    bounds = intervals.proportion(right, test.groups, given)
    return Answered(chosen, int(given.sum()), len(test.labels), share, bounds)


def choose_confidence(labelled: LabelledPredictions, threshold: float | None, target: float) -> Abstention:
    """Finds the lowest confidence whose answers are right in ``target`` of cases, with 95 % confidence.

    Args:
        labelled: validation images, with decisions by ``threshold``.
        threshold: decision threshold of two classes, 0 to 1; None stands for 0.5.
        target: above 0, below 1.

    Returns:
        The rule; without a confidence where the images can't guarantee the target.
    """
    sure = confidence_of(labelled.probabilities, labelled.positive, threshold)
    right = labelled.predicted == labelled.labels
    units = intervals.unit_numbers(labelled.groups, len(sure))
    # A group counts from its most confident image on, and as wrong from its first mistake on.
    n = int(units.max()) + 1
    enters, fails = np.zeros(n), np.full(n, -np.inf)
    np.maximum.at(enters, units, sure)
    np.maximum.at(fails, units[~right], sure[~right])
    levels = np.unique(sure)[::-1]
    answered, mistakes = (n - np.searchsorted(np.sort(of_group), levels) for of_group in (enters, fails))
    needed = smallest_number(target, 0, RISK)
    starts = [k for i, k in enumerate(TOLERATED) if smallest_number(target, k, RISK / (i + 1)) <= n]
    accepted: int | None = None
    for k in starts:
        level = RISK / len(starts)
        first = int(np.searchsorted(answered, smallest_number(target, k, level)))
        # P(at most so many mistakes) where exactly ``target`` of the answers are right.
        p_values = bdtr(mistakes[first:], answered[first:], 1 - target)
        passed = int(np.argmax(p_values > level)) if (p_values > level).any() else len(p_values)
        if passed:
            accepted = max(accepted or 0, first + passed - 1)
    if accepted is None:
        return Abstention(target, None, 0.0, n, needed)
    confidence = float(levels[accepted])
    return Abstention(target, confidence, float((sure >= confidence).mean()), n, needed)


def smallest_number(target: float, mistakes: int, risk: float) -> int:
    """The fewest answers with ``mistakes`` among them that reject "fewer than ``target`` are right" at the level ``risk``.

    Args:
        target: above 0, below 1.
        mistakes: at least 0.
        risk: significance level, above 0, below 1.

    Returns:
        Number of answers, mistakes included; without mistakes it is log(risk) / log(target), rounded up.

    Example:
        >>> smallest_number(0.99, 0, 0.05), smallest_number(0.9, 2, 0.05)
        (299, 61)
    """
    low, high = mistakes, mistakes + 1
    while bdtr(mistakes, high, 1 - target) > risk:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if bdtr(mistakes, middle, 1 - target) > risk else (low, middle)
    return high
