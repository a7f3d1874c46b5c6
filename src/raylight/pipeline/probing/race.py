"""A race of networks on growing subsets of the images, which drops weak ones early.

Successive halving (Jamieson and Talwalkar 2016) with a test: on 128 images, twice as many, and so on to all of them, each
remaining network is evaluated on the same images. Networks with a significantly lower accuracy than the leader's (McNemar's
test, corrected by Holm's method for all networks, with an equal share of 5 % for each round) are dropped; of the others the
better half remains, and at least three. How a network is evaluated is passed in.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from raylight.evaluation.differences.paired import SIGNIFICANT, holm, proportion_difference

FIRST = 128
"""Minimum number of images of the first round."""
PER_CLASS = 8
"""Minimum number of images per class in the first round, on average."""
FINALISTS = 3
"""Minimum number of networks that halving keeps; the test may drop more."""

BEHIND, BETTER_HALF = "far behind", "not in the better half"
"""Why a network was stopped."""

log = logging.getLogger("raylight")

Evaluate = Callable[[int, Int64[np.ndarray, " image"]], Bool[np.ndarray, " image"]]
"""(number of the network, positions of images) -> whether it is right on each, fitted on these images alone."""


@dataclass(frozen=True, eq=False)
class Standing:
    """The result of a network in the race.

    Attributes:
        right: by number of images, whether it was right on each of the first so many of the order.
        stopped: ``BEHIND``, ``BETTER_HALF``, or None if it was evaluated on all images.
    """

    right: Mapping[int, Bool[np.ndarray, " image"]]
    stopped: str | None

    @property
    def n(self) -> int:
        """Number of images that it was last evaluated on."""
        return max(self.right)

    @property
    def accuracy(self) -> float:
        """Accuracy on these."""
        return float(self.right[self.n].mean())


def looks(n: int, n_classes: int) -> list[int]:
    """Numbers of images of each round; the last is all of them.

    >>> looks(1800, 2), looks(100, 2)
    ([128, 256, 512, 1024, 1800], [100])
    """
    size, found = max(FIRST, PER_CLASS * n_classes), []
    while size * 1.5 < n:
        found.append(size)
        size *= 2
    return [*found, n]


def mixed_order(targets: Int64[np.ndarray, " image"], seed: int) -> Int64[np.ndarray, " image"]:
    """A random order whose every prefix is stratified by class, as nearly as possible.

    Args:
        targets: class number of each image.
        seed: of the order.
    """
    draw = np.random.default_rng(seed)
    place = np.empty(len(targets))
    for label in np.unique(targets):
        members = draw.permutation(np.flatnonzero(targets == label))
        place[members] = (np.arange(len(members)) + draw.uniform()) / len(members)
    return np.argsort(place, kind="stable")


def race(
    n_networks: int,
    sizes: Sequence[int],
    order: Int64[np.ndarray, " image"],
    groups: Int64[np.ndarray, " image"],
    evaluate: Evaluate,
) -> list[Standing]:
    """Evaluate networks on growing subsets until only those that may be the best are left.

    Args:
        n_networks: number of networks.
        sizes: number of images of each round.
        order: of the images; each round takes its prefix.
        groups: group number of each image.
        evaluate: evaluates a network.

    Returns:
        The standing of each network.
    """
    right: list[dict[int, Bool[np.ndarray, " image"]]] = [{} for _ in range(n_networks)]
    stopped: list[str | None] = [None] * n_networks
    running = list(range(n_networks))
    for size in sizes:
        chosen = order[:size]
        for one in running:
            right[one][size] = evaluate(one, chosen)
        if size == sizes[-1]:
            break
        ranked = sorted(running, key=lambda one: -right[one][size].mean())
        leader, others = ranked[0], ranked[1:]
        p_values = holm(
            [proportion_difference(right[one][size], right[leader][size], groups[chosen]).p_value for one in others]
        )
        for one, p_value in zip(others, p_values, strict=True):
            if p_value < SIGNIFICANT / len(sizes):
                stopped[one] = BEHIND
        near = [one for one in ranked if stopped[one] is None]
        for one in near[max(FINALISTS, math.ceil(len(running) / 2)) :]:
            stopped[one] = BETTER_HALF
        left = [one for one in running if stopped[one] is None]
        best = 100 * right[leader][size].mean()
        log.info("%d images: %.1f %% is the best, %d of %d networks go on", size, best, len(left), len(running))
        running = left
    return [Standing(each, why) for each, why in zip(right, stopped, strict=True)]
