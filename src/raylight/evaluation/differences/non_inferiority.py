"""Whether a cheaper version of a model is as accurate as the model itself, up to a margin: a paired non-inferiority test.

The one-sided 95 % bound of the paired difference of accuracies (Tango 1998) must lie above the margin.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int
from scipy.special import ndtri

from raylight.evaluation.differences.disagreements import Disagreements, disagreements
from raylight.evaluation.intervals import tango

MARGIN = 0.01
"""Largest loss of accuracy that is accepted: one percentage point."""

ONE_SIDED_Z = float(ndtri(0.95))
"""Standard deviations of a one-sided 95 % bound."""

MOST_IMAGES = 10**7
"""Numbers of images up to which is searched for one that is large enough."""


@dataclass(frozen=True)
class NonInferiority:
    """The accuracy of a version of a model against that of the model, on the same images.

    Attributes:
        n: number of images.
        only_model: images that only the model classifies correctly.
        only_version: images that only the version classifies correctly.
        difference: of the accuracies, version minus model.
        low: its one-sided 95 % lower bound.
        needed: number of images from which on the loss would be excluded, with as many disagreements per image; ``None`` if
            the observed loss itself is too large.
        margin: the loss that is to be excluded.
    """

    n: int
    only_model: int
    only_version: int
    difference: float
    low: float
    needed: int | None
    margin: float = MARGIN

    @property
    def shown(self) -> bool:
        """Whether a loss above the margin is excluded."""
        return self.low > -self.margin

    def as_json(self) -> dict[str, Any]:
        """The fields and what they say, as JSON values."""
        names = ("n", "only_model", "only_version", "difference", "low", "margin")
        return {**{name: getattr(self, name) for name in names}, "confidence": 0.95, "shown": self.shown}


def non_inferiority(
    model_right: Bool[np.ndarray, " image"],
    version_right: Bool[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None = None,
) -> NonInferiority:
    """Tests whether a version of a model loses at most ``MARGIN`` of its accuracy.

    Args:
        model_right: whether the model is right, per image.
        version_right: whether the version is right, per image.
        groups: group number of each image; ``None`` if images are independent.

    Returns:
        The counts, the difference and its bound.

    Raises:
        ValueError: no image.

    Example:
        >>> found = non_inferiority(np.ones(300, bool), np.ones(300, bool))
        >>> round(found.low, 4), found.shown, found.needed
        (-0.0089, True, 268)
    """
    if not len(model_right):
        raise ValueError("model_right: no image")
    counts = disagreements(model_right, version_right, groups)
    effective = counts.n / len(model_right)
    fewest = _fewest_images(counts)
    return NonInferiority(
        n=len(model_right),
        only_model=int((model_right & ~version_right).sum()),
        only_version=int((version_right & ~model_right).sum()),
        difference=float((counts.gains - counts.losses) / counts.n),
        low=tango(*counts, z=ONE_SIDED_Z).low,
        needed=None if fewest is None else math.ceil(fewest / effective),
    )


def refusal(found: NonInferiority, what: str, way_out: str) -> str:
    """Why a version isn't used, and what helps.

    Args:
        found: not shown.
        what: the version, such as ``int8``.
        way_out: what to do instead, such as ``leave out --precision int8``.

    Returns:
        A sentence.

    Example:
        >>> refusal(non_inferiority(np.ones(200, bool), np.ones(200, bool)), "int8", "leave it out")[:62]
        'int8 is refused: on 200 validation images its accuracy differs'
    """
    if found.needed is not None:
        enough = f"{found.needed:,} validation images with as few disagreements would exclude it (data.val_fraction)"
        way_out = f"{enough}, or {way_out}"
    return (
        f"{what} is refused: on {found.n:,} validation images its accuracy differs by {100 * found.difference:+.1f} points "
        f"({found.only_model:,} only right without {what}, {found.only_version:,} only with it), and a loss of up to "
        f"{-100 * found.low:.1f} isn't excluded (95 % confidence; {100 * found.margin:.0f} is allowed); {way_out}."
    )


def _fewest_images(counts: Disagreements) -> int | None:
    """The smallest effective number of images with these shares of disagreements that excludes the loss."""

    def excluded(n: int) -> bool:
        gains, losses = (share * n / counts.n for share in (counts.gains, counts.losses))
        return tango(gains, losses, n, ONE_SIDED_Z).low > -MARGIN

    if not excluded(MOST_IMAGES):
        return None
    too_few, enough = 0, MOST_IMAGES
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if excluded(middle) else (middle, enough)
    return enough
