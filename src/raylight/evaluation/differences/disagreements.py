"""The images on which two models disagree, as independent ones: what tests and intervals of paired proportions count."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from raylight.evaluation import intervals


class Disagreements(NamedTuple):
    """Effective numbers of images: divided by the design effect if images are grouped."""

    gains: float
    losses: float
    n: float


def disagreements(
    first_right: Bool[np.ndarray, " image"],
    second_right: Bool[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None = None,
) -> Disagreements:
    """Counts the images that only one of two models gets right.

    Args:
        first_right: whether the first model is right, per image.
        second_right: whether the second model is right, per image.
        groups: group number of each image; ``None`` if images are independent.

    Returns:
        The images that only the second gets right, those that only the first does, and all.

    Example:
        >>> disagreements(np.array([True, True, False]), np.array([True, False, True]))
        Disagreements(gains=1.0, losses=1.0, n=3.0)
    """
    net = second_right.astype(np.int64) - first_right.astype(np.int64)
    n, gains, losses = len(net), int((net > 0).sum()), int((net < 0).sum())
    share = 1.0
    if groups is not None and n:
        fewest = intervals.independent_groups(groups) / n
        sums = np.bincount(intervals.unit_numbers(groups, n), weights=net)
        share = float(np.clip((gains + losses) / max((sums**2).sum(), 1e-9), fewest, 1)) if gains + losses else fewest
    return Disagreements(gains * share, losses * share, n * share)
