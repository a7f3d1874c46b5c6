"""Whether heads learn as much from a cheaper version of features: a paired non-inferiority test by cross-fitting.

Both heads are judged on the exact features, as the network that is deployed computes them; only what they learn from differs.
"""

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from raylight.evaluation.differences.non_inferiority import NonInferiority, non_inferiority

FOLDS = 5
"""Each head learns from four fifths of the images and is judged on the rest."""


def heads_on_features(
    exact: Float[np.ndarray, "image feature"],
    cheaper: Float[np.ndarray, "image feature"],
    targets: Int64[np.ndarray, " image"],
    groups: Int[np.ndarray, " image"] | None = None,
    strength: float = 1e-3,
) -> NonInferiority:
    """Tests whether heads that learn from cheaper features lose at most ``MARGIN`` of their accuracy.

    Args:
        exact: features as the deployed network computes them.
        cheaper: of the same images, computed otherwise.
        targets: class numbers, each at least ``FOLDS`` times.
        groups: group number of each image, whose images stay in one fold; ``None`` if images are independent.
        strength: inverse penalty of the heads (scikit-learn's ``C``), for features of unit variance.

    Returns:
        The comparison of heads on cheaper features with heads on exact ones, each image judged once.

    Raises:
        ValueError: a class has fewer than ``FOLDS`` images.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> targets = np.arange(400) % 2
        >>> exact = rng.normal(size=(400, 8)) + 4 * targets[:, None]
        >>> heads_on_features(exact, exact + rng.normal(0, 0.01, exact.shape), targets).shown
        True
        >>> heads_on_features(exact, rng.permuted(exact, axis=0), targets).shown
        False
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if np.unique(targets, return_counts=True)[1].min() < FOLDS:
        raise ValueError(f"targets: a class has fewer than {FOLDS} images")
    right, right_on_cheaper = np.zeros(len(targets), bool), np.zeros(len(targets), bool)
    folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for fitted, judged in folds.split(exact, targets, np.arange(len(targets)) if groups is None else groups):
        for result, learnt_from in ((right, exact), (right_on_cheaper, cheaper)):
            result[judged] = _right(learnt_from[fitted], targets[fitted], exact[judged], targets[judged], strength)
    return non_inferiority(right, right_on_cheaper, groups)


def _right(
    features: Float[np.ndarray, "fitted feature"],
    targets: Int64[np.ndarray, " fitted"],
    judged: Float[np.ndarray, "judged feature"],
    truth: Int64[np.ndarray, " judged"],
    strength: float,
) -> Bool[np.ndarray, " judged"]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    head = make_pipeline(StandardScaler(), LogisticRegression(C=strength, tol=1e-5, max_iter=10_000))
    found: Bool[np.ndarray, " judged"] = head.fit(features, targets).predict(judged) == truth
    return found
