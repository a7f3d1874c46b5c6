"""The learning curve: accuracy by number of images, extrapolated to more of them, with an interval.

Heads are fitted on halves, quarters and eighths of the images and evaluated on the rest, and on all but one
(``leave_one_out``), so that each image is classified at each size. The error follows an inverse power law with an asymptote,
e(m) = a + b m^-c (Figueroa et al. 2012, BMC Med. Inform. Decis. Mak. 12:8). A least-squares fit and its bootstrap are
unreliable here: errors at all sizes are of the same few images, often of none, and exponent and asymptote are hardly
identifiable. So the interval is Bayesian: the number of errors with all images is binomial, those at smaller sizes are normal
around the law, correlated as the errors of images are, and the posterior of exponent and asymptote is sampled. Not here:
features.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from raylight.models.leave_one_out import head_of, leave_one_out

PARTS = (8, 4, 2)
"""Numbers of parts that the images are divided into; a head is fitted on one part at a time."""
REPEATS = 4
"""Random divisions into each number of parts."""
LEAST, LEAST_PER_CLASS = 8, 4
"""Minimum number of images that a head is fitted on, in all and per class on average."""
EXPONENTS = (0.1, 1.0)
"""Bounds of the uniform prior of the exponent."""
ASYMPTOTE = (0.5, 2.0)
"""Parameters of the beta prior of the share of the error that remains with any number of images."""
DRAWS = 20_000
_SHRUNK = 0.5
"""Shrinkage of the estimated correlations between sizes."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A measured learning curve and its posterior.

    Attributes:
        sizes: numbers of images that heads were fitted on, ascending; the last is all but one, counted as all.
        errors: error rate at each size.
        level: posterior draws of the error rate with all images.
        asymptote: draws of the share of it that remains with any number of images.
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
        """Number of images that an accuracy needs: median, and bounds of the 95 % interval; infinite if never reached."""
        share = ((1 - accuracy) / self.level - self.asymptote) / (1 - self.asymptote)
        with np.errstate(divide="ignore", over="ignore"):
            needed = np.where(share > 0, self.sizes[-1] * np.maximum(share, 1e-300) ** (-1 / self.exponent), np.inf)
        middle, low, high = np.quantile(needed, [0.5, 0.025, 0.975], method="higher")
        return float(middle), float(low), float(high)


def least_images(n_classes: int) -> int:
    """Minimum number of images of a curve; with fewer, eighths are too small to fit on.

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
        groups: group number of each; a group is in one part.
        seed: of the divisions and the draws.

    Raises:
        ValueError: there are fewer images than ``least_images`` says.
    """
    if len(np.unique(groups)) < least_images(n_classes):
        raise ValueError(
            f"a learning curve needs at least {least_images(n_classes)} images, not {len(np.unique(groups))}"
        )
    draw = np.random.default_rng(seed)
    n, sizes, errors_of_images, relative = len(targets), [], [], 0.0
    for parts in PARTS:
        wrong, between = _wrong_in_parts(features, targets, n_classes, groups, parts, draw)
        sizes.append(n // parts)
        errors_of_images.append(wrong)
        relative = between / max(wrong.mean(), 1 / n) ** 2 if parts > 2 else relative
    sizes.append(n)
    errors_of_images.append(1.0 - leave_one_out(features, targets, n_classes, groups).right(targets))
    return _posterior(tuple(sizes), np.array(errors_of_images), relative, groups, draw)


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
