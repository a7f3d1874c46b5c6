"""Caveats: where the coverage of an interval isn't 95 %, and why; shown in ``metrics.json``, reports and the terminal.

The limits come from ``experiments/coverage``, which measures the coverage of each interval.
"""

from collections.abc import Mapping

import numpy as np

from raylight.config.rules.metric_names import LABELS
from raylight.evaluation.predictions import LabelledPredictions

CAVEATS = {
    "conservative": "The bounds allow for errors that a sample may not show, and for a calibration error that is chance "
    "alone: they hold in 95 to 100 % of samples.",
    "wide_difference": "Bounds of a difference contain those of the swap test and the bootstrap, so that they agree with the "
    "p-value: they hold in 95 to 100 % of samples.",
    "few_per_class": "Fewer than 5 test images per class, or a class without any: averages over classes are biased (average "
    "precision upwards, the others mostly downwards), and their intervals may miss the truth.",
    "few_of_a_class": "Fewer than 10 test images of a class: few that are ranked wrong would change much, and the interval may "
    "miss the truth.",
    "resamples_alike": "Every resample gives the same value, so that the bootstrap can't tell how far off it may be.",
    "few_groups": "Fewer than 30 groups: how much images of a group are alike is badly known, and intervals may be too narrow.",
}
"""The text of each caveat, by its key in ``metrics.json``."""

SAFE = ("conservative", "wide_difference")
"""Caveats of intervals that are too wide, if anything: nothing that a reader has to be warned of."""

MIN_PER_CLASS, MIN_OF_A_CLASS, MIN_GROUPS, MIN_MISTAKES = 5, 10, 30, 5

CLASS_AVERAGES = ("balanced_accuracy", "precision", "recall", "specificity", "f1", "auroc", "average_precision")
"""Metrics that are averages over classes, with more than two classes."""

RANKING_METRICS = ("auroc", "average_precision")
"""Ranking metrics; a single image of the rarer class can change them a lot."""


def caveat_sentences(caveats: Mapping[str, str | None]) -> list[str]:
    """The text below a table, one sentence per caveat.

    Args:
        caveats: caveat of each metric, by its name.

    Example:
        >>> caveat_sentences({"auroc": "few_groups", "f1": None, "brier": "few_groups"})[0][:40]
        'AUROC, Brier score: Fewer than 30 groups'
    """
    words = dict.fromkeys(caveat for caveat in caveats.values() if caveat)
    named = {word: ", ".join(LABELS[name] for name, caveat in caveats.items() if caveat == word) for word in words}
    return [f"{named[word]}: {CAVEATS[word]}" for word in words]


def caveat_of(name: str, labelled: LabelledPredictions) -> str | None:
    """The caveat of a metric's interval; ``None`` where its coverage is 93 to 97.5 %.

    Args:
        name: of the metric.
        labelled: predictions that it was computed from.
    """
    if name == "ece":
        return "conservative"
    counts = np.bincount(labelled.labels, minlength=labelled.n_classes)
    mistakes = int((labelled.predicted != labelled.labels).sum())
    if labelled.n_classes > 2 and name in CLASS_AVERAGES:
        if counts.min() == 0 or counts.sum() < MIN_PER_CLASS * labelled.n_classes:
            return "few_per_class"
    elif labelled.n_classes == 2 and name in RANKING_METRICS and counts.min() < MIN_OF_A_CLASS:
        return "few_of_a_class"
    if labelled.groups is not None and len(np.unique(labelled.groups)) < MIN_GROUPS:
        return "few_groups"
    if name == "auroc" or (name in ("average_precision", "mcc") and mistakes < MIN_MISTAKES):
        return "conservative"
    return None


def caveat_of_difference(name: str, labelled: LabelledPredictions) -> str | None:
    """The caveat of the interval of a metric's difference between two models on the same images.

    Args:
        name: of the metric.
        labelled: predictions of one of the models.
    """
    caveat = caveat_of(name, labelled)
    return "wide_difference" if name not in ("accuracy", "brier", "ece") and caveat in (None, *SAFE) else caveat
