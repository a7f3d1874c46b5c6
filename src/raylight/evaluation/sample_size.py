"""Is a test set large enough? How precisely it measures an accuracy, and which difference of two models it can show.

Computed before any model is evaluated, from a number of independent images (or of groups, where images of one are alike).
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtri

from raylight.evaluation.intervals import Z, wilson

EXPECTED_ACCURACY = 0.9
"""Accuracy that is assumed before there is a model."""

PRECISE_MARGIN = 0.02
"""Half the width of an interval that counts as precise: 2 percentage points."""

POWER = 0.8
"""Probability of finding a difference that exists."""

DISAGREEMENT = 0.1
"""Share of images on which two models are assumed to disagree."""


@dataclass(frozen=True)
class Resolution:
    """What a number of test images can show.

    Attributes:
        n: independent images, or groups of them.
        accuracy: expected, 0 to 1.
        margin: half the width of the 95 % interval of an accuracy.
        difference: smallest difference of accuracy between two models on the same images that a test at 5 % finds with 80 %
            probability; None where it misses even a difference of ``DISAGREEMENT``.
        needed: images for a margin of ``PRECISE_MARGIN``.
    """

    n: int
    accuracy: float
    margin: float
    difference: float | None
    needed: int

    def sentence(self, units: str = "images") -> str:
        """Describes the resolution in a sentence.

        Args:
            units: what ``n`` counts.

        Returns:
            One sentence, for reports and the terminal.

        Example:
            >>> resolution(400).sentence()[:64]
            '400 test images measure an accuracy of 0.90 to ±3 points and sho'
        """
        comparison = (
            f"show a difference between two models from {points(self.difference)} points on"
            if self.difference is not None
            else f"can't show which of two models that disagree on {DISAGREEMENT:.0%} of them is better"
        )
        return (
            f"{self.n:,} test {units} measure an accuracy of {self.accuracy:.2f} to ±{points(self.margin)} points and "
            f"{comparison}; ±{100 * PRECISE_MARGIN:.0f} points need {self.needed:,} {units}."
        )


def points(share: float) -> str:
    """Format a share in percentage points: whole ones, below one point to one significant digit.

    Args:
        share: above 0.

    Returns:
        The number.

    Example:
        >>> [points(share) for share in (0.0304, 0.0096, 0.0042, 0.00019, 0.0000002)]
        ['3', '1', '0.4', '0.02', '0.00002']
    """
    value = 100 * share
    return f"{value:.0f}" if value >= 1 else np.format_float_positional(value, precision=1, fractional=False, trim="-")


def resolution(n: int, accuracy: float = EXPECTED_ACCURACY) -> Resolution:
    """What ``n`` independent test images can show.

    Args:
        n: at least 1.
        accuracy: expected, 0 to 1.

    Returns:
        Margin and smallest difference at ``n``, and the images needed for a margin of ``PRECISE_MARGIN``.

    Example:
        >>> found = resolution(400)
        >>> f"{found.margin:.3f} {found.difference:.3f} {found.needed}"
        '0.030 0.044 868'
    """
    return Resolution(n, accuracy, margin(accuracy, n), smallest_difference(n), images_for(accuracy, PRECISE_MARGIN))


def margin(accuracy: float, n: float) -> float:
    """Half the width of Wilson's 95 % interval.

    Args:
        accuracy: 0 to 1.
        n: independent images, at least 1.

    Returns:
        0 to 0.5.

    Example:
        >>> round(margin(0.9, 400), 3)
        0.03
    """
    low, high = wilson(accuracy * n, n)
    return (high - low) / 2


def images_for(accuracy: float, half_width: float) -> int:
    """The number of images at which Wilson's 95 % interval is no wider than twice ``half_width``.

    Args:
        accuracy: expected, 0 to 1.
        half_width: above 0.

    Returns:
        Number of independent images, 1 to 10 million.

    Example:
        >>> images_for(0.9, 0.03), images_for(0.9, 0.02)
        (388, 868)
    """
    return int(np.ceil(brentq(lambda n: margin(accuracy, n) - half_width, 1, 1e7)))


def smallest_difference(n: int, disagreement: float = DISAGREEMENT) -> float | None:
    """The smallest difference that McNemar's test at 5 % finds with 80 % probability (Connor 1987).

    Args:
        n: images that both models classify.
        disagreement: share of images that exactly one of the models gets right.

    Returns:
        Difference of accuracy, at most ``disagreement``; None where even that would be missed.
    """

    def lacking(difference: float) -> float:
        needed = Z * np.sqrt(disagreement) + ndtri(POWER) * np.sqrt(disagreement - difference**2)
        return float(needed - difference * np.sqrt(n))

    return None if lacking(disagreement) > 0 else float(brentq(lacking, 0, disagreement))
