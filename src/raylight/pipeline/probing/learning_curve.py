"""How accuracy grows with the number of images, and what it will be with more of them, with an interval.

Heads are fitted on halves, quarters and eighths of the images and judged on the rest, and on all but one (``leave_one_out``),
so that every image is judged at every size. The error follows an inverse power law with an asymptote, e(m) = a + b m^-c
(Figueroa et al. 2012, BMC Med. Inform. Decis. Mak. 12:8). A least-squares fit and its bootstrap say little here: the errors of
all sizes are those of the same few images, often none, and exponent and asymptote can hardly be told apart. So the interval is
Bayesian: the number of errors with all images is binomial, those at the smaller sizes are normal around the law with the
correlation that the images' verdicts have, and all exponents and asymptotes that agree with them count. Not here: features.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from raylight.pipeline.probing.leave_one_out import head_of, leave_one_out

PARTS = (8, 4, 2)
"""Into how many parts the images are cut; a head learns from one part at a time."""
REPEATS = 4
"""Cuts at random into each number of parts."""
LEAST, LEAST_PER_CLASS = 8, 4
"""Images that a head learns from at least, in all and on average of each class."""
EXPONENTS = (0.1, 1.0)
"""Smallest and largest exponent of the power law that is thought possible, all in between equally."""
ASYMPTOTE = (0.5, 2.0)
"""Of the beta distribution that the share of the error that stays is thought to have: none of it, or any part."""
DRAWS = 20_000
_SHRUNK = 0.5
"""Share of the correlations between sizes that is taken away, since they are estimated."""


@dataclass(frozen=True, eq=False)
class Curve:
    """What was measured, and what it makes likely.

    Attributes:
        sizes: numbers of images that heads learnt from, ascending; the last is all but one, counted as all.
        errors: share of the images that was wrong at each size.
        level: draws of the error with all images.
        asymptote: draws of the share of it that no number of images would take away.
        exponent: draws of the exponent.
    """

    sizes: tuple[int, ...]
    errors: tuple[float, ...]
    level: Float[np.ndarray, " draw"]
    asymptote: Float[np.ndarray, " draw"]
    exponent: Float[np.ndarray, " draw"]

    def accuracy(self, images: float) -> tuple[float, float, float]:
        """Expected accuracy with a number of images: median, and bounds of the 95 % interval."""
        errors = self.level * (self.asymptote + (1 - self.asymptote) * (images / self.sizes[-1]) ** -self.exponent)
        middle, high, low = np.quantile(errors, [0.5, 0.025, 0.975])
        return float(1 - middle), float(1 - low), float(1 - high)

    def images_for(self, accuracy: float) -> tuple[float, float, float]:
        """Images that an accuracy takes: median, and bounds of the 95 % interval; infinite where it may never be reached."""
        share = ((1 - accuracy) / self.level - self.asymptote) / (1 - self.asymptote)
        with np.errstate(divide="ignore", over="ignore"):
            needed = np.where(share > 0, self.sizes[-1] * np.maximum(share, 1e-300) ** (-1 / self.exponent), np.inf)
        middle, low, high = np.quantile(needed, [0.5, 0.025, 0.975], method="higher")
        return float(middle), float(low), float(high)


def least_images(n_classes: int) -> int:
    """Images that a curve takes: of less, eighths are no set to learn from.

    >>> least_images(2), least_images(60)
    (64, 1920)
    """
    return max(PARTS) * max(LEAST, LEAST_PER_CLASS * n_classes)


def learning_curve(
    features: Float[np.ndarray, "image feature"],
    targets: Int64[np.ndarray, " image"],
    n_classes: int,
    groups: Int64[np.ndarray, " image"],
    seed: int = 0,
) -> Curve:
    """Measure the curve and extrapolate it.

    Args:
        features: of each image.
        targets: class number of each.
        n_classes: number of classes.
        groups: group number of each; a group is on one side of every cut.
        seed: of the cuts and the draws.

    Raises:
        ValueError: there are fewer images than ``least_images`` says.
    """
    if len(np.unique(groups)) < least_images(n_classes):
        raise ValueError(
            f"a learning curve takes {least_images(n_classes)} images at least, not {len(np.unique(groups))}"
        )
    draw = np.random.default_rng(seed)
    n, sizes, verdicts, relative = len(targets), [], [], 0.0
    for parts in PARTS:
        wrong, between = _wrong_in_parts(features, targets, n_classes, groups, parts, draw)
        sizes.append(n // parts)
        verdicts.append(wrong)
        relative = between / max(wrong.mean(), 1 / n) ** 2 if parts > 2 else relative
    sizes.append(n)
    verdicts.append(1.0 - leave_one_out(features, targets, n_classes, groups).right(targets))
    return _posterior(tuple(sizes), np.array(verdicts), relative, groups, draw)


def _wrong_in_parts(
    features: Float[np.ndarray, "image feature"],
    targets: Int64[np.ndarray, " image"],
    n_classes: int,
    groups: Int64[np.ndarray, " image"],
    parts: int,
    draw: np.random.Generator,
) -> tuple[Float[np.ndarray, " image"], float]:
    """How often each image is wrong, by heads that learnt from one part of the others; and the variance between heads."""
    wrong, judged, variances = np.zeros(len(targets)), np.zeros(len(targets)), []
    names, members = np.unique(groups, return_inverse=True)
    for _ in range(REPEATS):
        shares = []
        part_of = (draw.permutation(len(names)) * parts // len(names))[members]
        for part in range(parts):
            seen = part_of == part
            if len(np.unique(targets[seen])) < 2 or len(np.unique(groups[seen])) < 2:
                continue
            head = head_of(features[seen], targets[seen], n_classes, groups[seen])
            mistaken = head(features[~seen]).argmax(axis=1) != targets[~seen]
            wrong[~seen] += mistaken
            judged[~seen] += 1
            shares.append(float(mistaken.mean()))
        variances.append(float(np.var(shares, ddof=1)) if len(shares) > 1 else 0.0)
    return wrong / np.maximum(judged, 1), float(np.mean(variances))


def _posterior(
    sizes: tuple[int, ...],
    wrong: Float[np.ndarray, "size image"],
    relative: float,
    groups: Int64[np.ndarray, " image"],
    draw: np.random.Generator,
) -> Curve:
    """Draws from what the errors make likely, by weighting draws from what is thought possible."""
    errors = wrong.mean(axis=1)
    names, members = np.unique(groups, return_inverse=True)
    n = len(names)
    # Two more images, one wrong throughout and one right throughout, so that no variance is zero.
    whole = np.hstack([wrong, np.ones((len(sizes), 1)), np.zeros((len(sizes), 1))])
    smoothed = whole.mean(axis=1)
    clusters = np.append(members, [n, n + 1])
    excess = np.stack([np.bincount(clusters, weights=each) for each in whole - smoothed[:, None]])
    covariance = excess @ excess.T / len(clusters)
    spread = np.sqrt(np.diag(covariance))
    share_of_binary = spread / np.sqrt(smoothed * (1 - smoothed))
    correlation = (1 - _SHRUNK) * covariance / np.outer(spread, spread) + _SHRUNK * np.eye(len(sizes))
    # Another training set of the same size would have another error: its variance adds to that of the images judged.
    top = float(smoothed[-1])
    effective = 1 / (max(share_of_binary[-1] ** 2, 1.0) / wrong.shape[1] + relative * top / (1 - top))
    level = draw.beta(effective * errors[-1] + 0.5, effective * (1 - errors[-1]) + 0.5, DRAWS)
    asymptote, exponent = draw.beta(*ASYMPTOTE, DRAWS), draw.uniform(*EXPONENTS, DRAWS)
    shares = np.array(sizes[:-1]) / sizes[-1]
    law = level[:, None] * (asymptote[:, None] + (1 - asymptote[:, None]) * shares ** -exponent[:, None])
    law = np.minimum(law, 0.99)
    scale = share_of_binary[:-1] * np.sqrt(law * (1 - law) / wrong.shape[1])
    with_all = (errors[-1] - level) / (share_of_binary[-1] * np.sqrt(level * (1 - level) / wrong.shape[1]))
    beta = correlation[:-1, -1]
    conditional = correlation[:-1, :-1] - np.outer(beta, beta)
    residual = (errors[:-1] - law) / scale - beta * with_all[:, None]
    inverse = np.linalg.inv(conditional)
    log_weight = -0.5 * np.einsum("dk,kl,dl->d", residual, inverse, residual) - np.log(scale).sum(axis=1)
    weight = np.exp(log_weight - log_weight.max())
    chosen = draw.choice(DRAWS, DRAWS, p=weight / weight.sum())
    level, asymptote, exponent = level[chosen], asymptote[chosen], exponent[chosen]
    return Curve(sizes, tuple(float(error) for error in errors), level, asymptote, exponent)
