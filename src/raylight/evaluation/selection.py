"""How much the best of several candidates is flattered by having been chosen as the best.

Leaves out what is chosen, and by which metric (``compare.sweep_choice``).
"""

import numpy as np
from jaxtyping import Float


def selection_optimism(
    criterion: Float[np.ndarray, "image candidate"],
    told: Float[np.ndarray, "image candidate"],
    n_resamples: int = 1000,
    seed: int = 0,
) -> float:
    """How much lower the chosen candidate's score is on new images than on those that chose it.

    In each bootstrap resample the best candidate is chosen on the images that were drawn and judged on those that were not;
    the mean of these is what choosing like this gives on new images (BBC-CV; Tsamardinos, Greasidou and Borboudakis 2018).

    Args:
        criterion: by whose mean over images the best (highest) candidate is chosen.
        told: whose mean over images is told of it.
        n_resamples: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        At least 0; in the units of ``told``.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> equal = (rng.uniform(size=(40, 20)) < 0.9).astype(float)  # 20 equally good candidates
        >>> round(selection_optimism(equal, equal), 2)
        0.04
    """
    n = len(criterion)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    best = (weights @ criterion).argmax(axis=1)
    unseen = (weights == 0).astype(np.float64)
    kept = unseen.any(axis=1)
    on_unseen = ((unseen @ told)[np.arange(n_resamples), best] / np.maximum(unseen.sum(axis=1), 1))[kept]
    return max(0.0, float(told[:, criterion.mean(axis=0).argmax()].mean() - on_unseen.mean()))
