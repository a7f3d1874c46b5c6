"""Caveats: where the coverage of an interval isn't 95 %, and why; shown in ``metrics.json``, reports and the terminal.

The limits come from ``experiments/coverage``, which measures the coverage of each interval.
"""

from collections.abc import Mapping

import numpy as np

from raylight.config.rules.metric_names import LABELS
from raylight.evaluation.predictions import LabelledPredictions

CAVEATS = {
    "conservative": "The bounds allow for errors that the sample doesn't contain, and for a calibration error that is "
    "pure chance: they hold in 95 to 100 % of samples.",
    "wide_difference": "Bounds of a difference contain those of the swap test and the bootstrap, so that they agree with the "
    "p-value: they hold in 95 to 100 % of samples.",
    "few_per_class": "Fewer than 5 test images per class, or a class without any: averages over classes are biased (average "
    "precision upwards, the others mostly downwards), and their intervals may miss the true value.",
    "few_of_a_class": "Fewer than 10 test images of a class: a few misranked images would change much, and the interval may "
    "miss the true value.",
    "resamples_alike": "Every resample gives the same value, so that the bootstrap gives no width.",
    "few_groups": "Fewer than 30 groups: the correlation within groups is poorly estimated, and intervals may be too narrow.",
}
"""The text of each caveat, by its key in ``metrics.json``."""

SAFE = ("conservative", "wide_difference")
"""Caveats of intervals that are too wide, if anything: no reason to warn a reader."""

MIN_PER_CLASS, MIN_OF_A_CLASS, MIN_GROUPS, MIN_MISTAKES = 5, 10, 30, 5

CLASS_AVERAGES = ("balanced_accuracy", "precision", "recall", "specificity", "f1", "auroc", "average_precision")
"""Metrics that are averages over classes, with more than two classes."""

RANKING_METRICS = ("auroc", "average_precision")
"""Ranking metrics; a single image of the rarer class can change them a lot."""


def caveat_sentences(caveats: Mapping[str, str | None]) -> list[str]:
    """Text to print below a table of metrics, one sentence per caveat.

    Args:
        caveats: caveat of each metric, by its name; ``None`` for no caveat.

    Returns:
        Sentences, each beginning with the metrics that it is about.

    Example:
        >>> caveat_sentences({"auroc": "few_groups", "f1": None, "brier": "few_groups"})[0][:40]
        'AUROC, Brier score: Fewer than 30 groups'
    """
    words = dict.fromkeys(caveat for caveat in caveats.values() if caveat)
    named = {word: ", ".join(LABELS[name] for name, caveat in caveats.items() if caveat == word) for word in words}
    return [f"{named[word]}: {CAVEATS[word]}" for word in words]


def caveat_of(name: str, labelled: LabelledPredictions) -> str | None:
    """The caveat of a metric's interval.

    Args:
        name: of the metric.
        labelled: predictions that it was computed from.

    Returns:
        A key of ``CAVEATS``; ``None`` where the coverage is 93 to 97.5 %.

    Example:
        >>> labels = np.array([0, 1] * 5)
        >>> few = LabelledPredictions(labels, np.eye(2)[labels], labels, positive=1, groups=None)
        >>> caveat_of("accuracy", few), caveat_of("auroc", few)
        (None, 'few_of_a_class')
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

    Returns:
        A key of ``CAVEATS``; ``None`` where the coverage is 93 to 97.5 %.
    """
    caveat = caveat_of(name, labelled)
    return "wide_difference" if name not in ("accuracy", "brier", "ece") and caveat in (None, *SAFE) else caveat
