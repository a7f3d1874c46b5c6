"""Selection bias: how optimistic the score of the best of several candidates is.

Not here: choosing a candidate (``comparison.sweep.choice``).
"""

import numpy as np
from jaxtyping import Float


def selection_optimism(
    criterion: Float[np.ndarray, "image candidate"],
    reported: Float[np.ndarray, "image candidate"],
    n_resamples: int = 1000,
    seed: int = 0,
) -> float:
    """How much lower the chosen candidate's score is on new images than on those that it was chosen on.

    In each bootstrap resample the best candidate is chosen on the images that were drawn and scored on those that were not;
    the mean of these scores estimates the score on new images (BBC-CV; Tsamardinos, Greasidou and Borboudakis 2018).

    Args:
        criterion: of each candidate on each image; the candidate with the highest mean is chosen.
        reported: of each candidate on each image; its mean is the reported score.
        n_resamples: bootstrap resamples.
        seed: of the bootstrap.

    Returns:
        At least 0; in the units of ``reported``.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> equal = (rng.uniform(size=(40, 20)) < 0.9).astype(float)  # 20 equally good candidates
        >>> round(selection_optimism(equal, equal), 2)
        0.04
    """
    n = len(criterion)
    weights = np.random.default_rng(seed).multinomial(n, np.full(n, 1 / n), n_resamples)
    best = (weights @ criterion).argmax(axis=1)
    left_out = (weights == 0).astype(np.float64)
    kept = left_out.any(axis=1)
    on_left_out = ((left_out @ reported)[np.arange(n_resamples), best] / np.maximum(left_out.sum(axis=1), 1))[kept]
    return max(0.0, float(reported[:, criterion.mean(axis=0).argmax()].mean() - on_left_out.mean()))
