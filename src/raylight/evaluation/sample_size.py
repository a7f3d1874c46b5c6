"""Is a test set large enough? How exactly it measures an accuracy, and which difference of two models it can show.

Reckoned before any model is judged, from a number of independent images (or of groups, where images of one are alike).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm

from raylight.evaluation.intervals import Z, wilson

EXPECTED = 0.9
"""Accuracy that is reckoned with before there is one."""

PRECISE = 0.02
"""Half the width of an interval that counts as precise: 2 points."""

POWER = 0.8
"""Probability that a difference is found where there is one."""

DISAGREEMENT = 0.1
"""Share of images that two models are taken to judge differently."""


@dataclass(frozen=True)
class Resolution:
    """What a number of test images can tell.

    Attributes:
        n: independent images, or groups of them.
        accuracy: that is reckoned with, 0 to 1.
        margin: half the width of the 95 % interval of an accuracy.
        difference: smallest difference of accuracy between two models on the same images that a test at 5 % finds with 80 %
            probability; None where not even models that differ on ``DISAGREEMENT`` of the images in one direction would be
            told apart.
        needed: images for a margin of ``PRECISE``.
    """

    n: int
    accuracy: float
    margin: float
    difference: float | None
    needed: int

    def sentence(self, units: str = "images") -> str:
        """The resolution in a sentence.

        Args:
            units: what ``n`` counts.
        """
        told = (
            f"two models are told apart from a difference of {100 * self.difference:.0f} points on"
            if self.difference is not None
            else f"two models that differ on {DISAGREEMENT:.0%} of them can't be told apart"
        )
        return (
            f"{self.n:,} test {units} measure an accuracy of {self.accuracy:.2f} to ±{100 * self.margin:.0f} points, and "
            f"{told}; ±{100 * PRECISE:.0f} points take {self.needed:,}."
        )


def resolution(n: int, accuracy: float = EXPECTED) -> Resolution:
    """What ``n`` independent test images can tell.

    Args:
        n: at least 1.
        accuracy: expected, 0 to 1.

    Example:
        >>> found = resolution(400)
        >>> f"{found.margin:.3f} {found.difference:.3f} {found.needed}"
        '0.030 0.044 868'
    """
    return Resolution(n, accuracy, margin(accuracy, n), smallest_difference(n), images_for(accuracy, PRECISE))


def margin(accuracy: float, n: float) -> float:
    """Half the width of Wilson's 95 % interval."""
    low, high = wilson(accuracy * n, n)
    return (high - low) / 2


def images_for(accuracy: float, half_width: float) -> int:
    """Images that Wilson's 95 % interval needs to be no wider than twice ``half_width``."""
    return int(np.ceil(brentq(lambda n: margin(accuracy, n) - half_width, 1, 1e7)))


def smallest_difference(n: int, disagreement: float = DISAGREEMENT) -> float | None:
    """The smallest difference that McNemar's test at 5 % finds with 80 % probability (Connor 1987).

    Args:
        n: images that both models judge.
        disagreement: share of images that exactly one of the models gets right.

    Returns:
        Difference of accuracy, at most ``disagreement``; None where even that would be missed.
    """

    def lacking(difference: float) -> float:
        needed = Z * np.sqrt(disagreement) + norm.isf(1 - POWER) * np.sqrt(disagreement - difference**2)
        return float(needed - difference * np.sqrt(n))

    return None if lacking(disagreement) > 0 else float(brentq(lacking, 0, disagreement))
