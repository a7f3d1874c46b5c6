"""The metadata baseline: how well size, format, bytes, brightness and the like predict the label, without the picture.

A forest is fitted to these facts and evaluated on files that it wasn't fitted on, in five folds that keep patients and
duplicates together. Where its balanced accuracy is above chance, a network may be, too, without having learnt anything from
the content of the pictures. Leaves out how the facts are gathered (``auditing.metadata``).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from raylight.auditing.findings import Finding
from raylight.auditing.metadata import SideFacts
from raylight.evaluation.intervals import Interval, mean_of, proportion
from raylight.machine import usable_cpus

FOLDS = 5
SAMPLE = 1500
"""Maximum number of images, drawn at random; the interval is then at most five percentage points wide."""

FEWEST = 10
"""Independent images of each class below which nothing is said."""

CLEARLY = 0.1
"""How far above chance the interval must begin to be a warning, since photos of different things always differ a
little; half as far above is worth a note, 2.5 times as far is a problem."""


@dataclass(frozen=True)
class Guessed:
    """How often the label was guessed right.

    Attributes:
        name: of the fact, or facts, that it was guessed from.
        balanced_accuracy: mean over the classes of the share guessed right; the same at any prevalence.
        low: lower bound of its 95 % interval.
        high: upper bound.
        typical: for each class, what is usual in it, in words; none for several facts.
    """

    name: str
    balanced_accuracy: float
    low: float
    high: float
    typical: tuple[str, ...] = ()


@dataclass(frozen=True)
class GiveAway:
    """What the label can be guessed from.

    Attributes:
        together: from all facts.
        file_alone: from the file alone, without brightness and contrast.
        single: from each fact by itself, the most telling first.
        chance: balanced accuracy of any guess that doesn't look, one divided by the number of classes.
        n: images looked at.
        class_names: in the order of each fact's ``typical``.
    """

    together: Guessed
    file_alone: Guessed
    single: tuple[Guessed, ...]
    chance: float
    n: int
    class_names: tuple[str, ...]

    @property
    def margin(self) -> float:
        """How far above chance the lower bound lies; below 0 where chance can't be excluded."""
        return self.together.low - self.chance


def give_away(
    facts: SideFacts,
    targets: Int64[np.ndarray, " file"],
    linked: Int64[np.ndarray, " file"],
    class_names: tuple[str, ...],
) -> GiveAway | None:
    """Guess labels from side facts.

    Args:
        facts: of each file; of a draw of ``SAMPLE`` of them where there are more.
        targets: number of each file's class.
        linked: files of the same patient, or of the same picture, share a number.
        class_names: in the order of ``targets``.

    Returns:
        None where a class has fewer than ``FEWEST`` independent images.
    """
    from joblib import parallel_config
    from sklearn.dummy import DummyClassifier
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import PredefinedSplit, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    values, linked = facts.values, np.unique(linked, return_inverse=True)[1]
    independent = [len(np.unique(linked[targets == k])) for k in range(len(class_names))]
    if len(class_names) < 2 or min(independent) < FEWEST:
        return None
    folds = folds_of(targets, linked)

    forest = ExtraTreesClassifier(30, min_samples_leaf=3, class_weight="balanced", random_state=0, n_jobs=1)
    stump = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=5, class_weight="balanced", random_state=0)
    commonest = DummyClassifier(strategy="most_frequent")

    def guessed(name: str, columns: Any, model: Any, typical: tuple[str, ...] = ()) -> Guessed:
        with parallel_config("threading", n_jobs=min(FOLDS, usable_cpus())):  # trees grow without holding Python's lock
            right = cross_val_predict(model, values[:, columns], targets, cv=PredefinedSplit(folds)) == targets
        of_class = [right[targets == k] for k in range(len(class_names))]
        intervals = [_interval(some, linked[targets == k]) for k, some in enumerate(of_class)]
        recalls = [float(some.mean()) for some in of_class]
        return Guessed(name, float(np.mean(recalls)), *mean_of(recalls, intervals), typical)

    varied = np.array([len(np.unique(column)) > 1 for column in values.T])
    if not varied.any():
        return None
    single = [
        guessed(name, [k], stump, _typical(facts, values, k, targets, len(class_names)))
        for k, name in enumerate(facts.names)
        if varied[k]
    ]
    everything = np.flatnonzero(varied)
    file_only = np.flatnonzero(varied & ~np.array(facts.shown))
    return GiveAway(
        together=guessed("all of these", everything, forest),
        file_alone=guessed("the file alone", file_only, forest if file_only.size else commonest),
        single=tuple(sorted(single, key=lambda one: -one.balanced_accuracy)),
        chance=1 / len(class_names),
        n=len(targets),
        class_names=class_names,
    )


def give_away_finding(found: GiveAway) -> Finding | None:
    """A finding, where labels are guessed clearly better than by chance."""
    if found.margin <= CLEARLY / 2:
        return None
    severity = "problem" if found.margin > 2.5 * CLEARLY else "warning" if found.margin > CLEARLY else "note"
    best = found.single[0]
    telling = (
        f" The most telling fact is {best.name} ({percent(best.balanced_accuracy)} alone: "
        + ", ".join(f"{name} {words}" for name, words in list(zip(found.class_names, best.typical, strict=True))[:4])
        + ")."
    )
    return Finding(
        "give_away",
        severity,
        "The label shows without the picture",
        f"{sentence(found)}{telling} A network can score as well without having learnt what the classes look like. Bring "
        "all classes into the same size, format and brightness, or get them from the same source.",
        1,
    )


def sentence(found: GiveAway) -> str:
    """The result in one sentence."""
    one = found.together
    if found.margin <= 0:
        return (
            f"The label can't be told without looking at the picture: from its size, format, bytes and brightness, "
            f"it is guessed with a balanced accuracy of {percent(one.balanced_accuracy)} (95 % interval {percent(one.low)} to "
            f"{percent(one.high)}), no clear gain over chance ({percent(found.chance)})."
        )
    return (
        f"The label can be predicted without looking at the picture: with a balanced accuracy of "
        f"{percent(one.balanced_accuracy)} (95 % interval {percent(one.low)} to {percent(one.high)}; chance gives "
        f"{percent(found.chance)}), from its size, format, bytes and brightness."
    )


def percent(share: float) -> str:
    """A share in per cent, in as many digits as mean something."""
    return f"{100 * share:.1f} %" if 0.95 < share < 1 or 0 < share < 0.05 else f"{100 * share:.0f} %"


def _interval(right: Bool[np.ndarray, " file"], linked: Int64[np.ndarray, " file"]) -> Interval:
    return proportion(right, None if len(np.unique(linked)) == len(linked) else linked)


def folds_of(targets: Int64[np.ndarray, " file"], linked: Int64[np.ndarray, " file"]) -> Int64[np.ndarray, " file"]:
    """A fold of each file: groups at random, those of a class in turn, so that folds have its share of it."""
    linked = np.unique(linked, return_inverse=True)[1]
    first = np.unique(linked, return_index=True)[1]
    order = np.random.default_rng(0).permutation(len(first))
    order = order[np.argsort(targets[first][order], kind="stable")]
    fold_of = np.empty(len(first), np.int64)
    fold_of[order] = np.arange(len(first)) % FOLDS
    return np.asarray(fold_of[linked])


def _typical(
    facts: SideFacts, values: Float[np.ndarray, "file fact"], k: int, targets: Int64[np.ndarray, " file"], classes: int
) -> tuple[str, ...]:
    """The median of a number, or the commonest word with its share, in each class."""
    usual = []
    for number in range(classes):
        column = values[targets == number, k]
        if facts.words[k]:
            codes = np.bincount(column.astype(np.int64))
            word = facts.words[k][int(codes.argmax())] or "none"
            usual.append(f"{word} {percent(codes.max() / codes.sum())}")
        else:
            usual.append(f"{np.median(column):,.4g}" if abs(np.median(column)) < 1000 else f"{np.median(column):,.0f}")
    return tuple(usual)
