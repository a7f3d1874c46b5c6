"""A race of networks on growing subsets of the images, which stops the hopeless early.

Successive halving (Jamieson and Talwalkar 2016) with a test: on 128 images, twice as many, and so on to all of them, each
network still in the race is judged on the same images. Those whose accuracy is lower than the leader's (McNemar's test, by
Holm's method for all networks and a share of 5 % for each look) are far behind; of the others the better half goes on, and
three at least. What judges a network on some images is given.
"""

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from raylight.evaluation.differences.paired import SIGNIFICANT, holm, proportion_difference

FIRST = 128
"""Images of the first look at least."""
PER_CLASS = 8
"""Images of each class in the first look, on average, at least."""
FINALISTS = 3
"""Networks that halving leaves in the race; the test alone may stop them."""

BEHIND, BETTER_HALF = "far behind", "not in the better half"
"""Why a network was stopped."""

log = logging.getLogger("raylight")

Judge = Callable[[int, Int64[np.ndarray, " image"]], Bool[np.ndarray, " image"]]
"""(number of the network, which images) -> where it is right on them, learning from no others."""


@dataclass(frozen=True, eq=False)
class Standing:
    """How far a network came.

    Attributes:
        right: by number of images: where it was right on the first so many of the order.
        stopped: ``BEHIND``, ``BETTER_HALF``, or None where it was judged on all images.
    """

    right: Mapping[int, Bool[np.ndarray, " image"]]
    stopped: str | None

    @property
    def n(self) -> int:
        """Images that it was last judged on."""
        return max(self.right)

    @property
    def accuracy(self) -> float:
        """On these."""
        return float(self.right[self.n].mean())


def looks(n: int, n_classes: int) -> list[int]:
    """Numbers of images at which the race is looked at; the last is all of them.

    >>> looks(1800, 2), looks(100, 2)
    ([128, 256, 512, 1024, 1800], [100])
    """
    size, found = max(FIRST, PER_CLASS * n_classes), []
    while size * 1.5 < n:
        found.append(size)
        size *= 2
    return [*found, n]


def mixed_order(targets: Int64[np.ndarray, " image"], seed: int) -> Int64[np.ndarray, " image"]:
    """An order at random in which each beginning has the classes in their shares, as nearly as can be.

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
    judge: Judge,
) -> list[Standing]:
    """Judge networks on growing subsets until only those that may be the best are left.

    Args:
        n_networks: how many there are.
        sizes: numbers of images at which to look.
        order: of the images; each look takes its beginning.
        groups: group number of each image.
        judge: judges a network.

    Returns:
        The standing of each network.
    """
    right: list[dict[int, Bool[np.ndarray, " image"]]] = [{} for _ in range(n_networks)]
    stopped: list[str | None] = [None] * n_networks
    running = list(range(n_networks))
    for size in sizes:
        chosen = order[:size]
        for one in running:
            right[one][size] = judge(one, chosen)
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
