"""Where an interval can't keep what 95 % promises, and why: what ``metrics.json``, the page and the terminal say beside it.

The limits are those of ``experiments/coverage``, which measures how often each interval holds the truth.
"""

from collections.abc import Mapping

import numpy as np

from raylight.config.metric_names import LABELS
from raylight.evaluation.predictions import Verdicts

CAVEATS = {
    "conservative": "The bounds of the calibration error allow for chance alone making one: they hold in more than 95 % of "
    "samples.",
    "few_per_class": "Fewer than 5 test images per class, or a class without any: averages over classes are biased (average "
    "precision upwards, the others mostly downwards), and their intervals may miss the truth.",
    "few_of_a_class": "Fewer than 10 test images of a class: few that are ranked wrong would change much, and the interval may "
    "miss the truth.",
    "few_groups": "Fewer than 30 groups: how much images of a group are alike is badly known, and intervals may be too narrow.",
}
"""What each caveat says, by the word that stands for it in ``metrics.json``."""

LEAST_PER_CLASS, LEAST_OF_A_CLASS, LEAST_GROUPS = 5, 10, 30

OVER_CLASSES = ("balanced_accuracy", "precision", "recall", "specificity", "f1", "auroc", "average_precision")
"""With more than two classes, averages over them."""

RANKED = ("auroc", "average_precision")
"""Metrics of rankings, which a single image of the rarer class can change much."""


def caveat_sentences(caveats: Mapping[str, str | None]) -> list[str]:
    """What a table says below it, a sentence for each caveat.

    Args:
        caveats: of each metric, by name.

    Example:
        >>> caveat_sentences({"auroc": "few_groups", "f1": None, "brier": "few_groups"})[0][:40]
        'AUROC, Brier score: Fewer than 30 groups'
    """
    words = dict.fromkeys(caveat for caveat in caveats.values() if caveat)
    named = {word: ", ".join(LABELS[name] for name, caveat in caveats.items() if caveat == word) for word in words}
    return [f"{named[word]}: {CAVEATS[word]}" for word in words]


def caveat_of(name: str, verdicts: Verdicts) -> str | None:
    """The caveat of a metric's interval; ``None`` where it holds in 93 to 97.5 % of samples.

    Args:
        name: of the metric.
        verdicts: what it was computed from.
    """
    if name == "ece":
        return "conservative"
    counts = np.bincount(verdicts.labels, minlength=verdicts.n_classes)
    if verdicts.n_classes > 2 and name in OVER_CLASSES:
        if counts.min() == 0 or counts.sum() < LEAST_PER_CLASS * verdicts.n_classes:
            return "few_per_class"
    elif verdicts.n_classes == 2 and name in RANKED and counts.min() < LEAST_OF_A_CLASS:
        return "few_of_a_class"
    if verdicts.groups is not None and len(np.unique(verdicts.groups)) < LEAST_GROUPS:
        return "few_groups"
    return None
