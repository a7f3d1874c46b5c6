"""The metadata baseline: how well size, format, bytes, brightness and the like predict the label, without the picture.

A random forest is fitted to the metadata and evaluated by five-fold cross-validation, whose folds keep patients and duplicates
together. Where its balanced accuracy is above chance, a network may be, too, without having learnt anything from
the content of the pictures. Leaves out where the metadata comes from (``auditing.metadata``).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int64

from raylight.auditing.findings import Finding
from raylight.auditing.metadata import FileMetadata
from raylight.evaluation.intervals import Interval, mean_of, proportion
from raylight.machine import usable_cpus

FOLDS = 5
SAMPLE = 1500
"""Maximum number of images, drawn at random; the interval is then at most five percentage points wide."""

FEWEST = 10
"""Minimum number of independent images per class."""

CLEARLY = 0.1
"""Margin above chance from which the lower bound gives a warning: photos of different things always differ a little. Half
the margin gives a note, 2.5 times the margin a problem."""


@dataclass(frozen=True)
class BaselineScore:
    """How well some metadata predicts the label.

    Attributes:
        name: of the metadata.
        balanced_accuracy: mean recall over the classes, which doesn't depend on prevalence.
        low: lower bound of its 95 % interval.
        high: upper bound.
        typical: the typical value in each class, in words; empty for several columns.
    """

    name: str
    balanced_accuracy: float
    low: float
    high: float
    typical: tuple[str, ...] = ()


@dataclass(frozen=True)
class MetadataBaseline:
    """How well metadata predicts the label.

    Attributes:
        together: by all columns.
        file_alone: by the file alone, without brightness and contrast.
        single: by each column by itself, the most predictive first.
        chance: balanced accuracy of a random guess, one divided by the number of classes.
        n: images used.
        class_names: in the order of each ``typical``.
    """

    together: BaselineScore
    file_alone: BaselineScore
    single: tuple[BaselineScore, ...]
    chance: float
    n: int
    class_names: tuple[str, ...]

    @property
    def margin(self) -> float:
        """Lower bound minus chance; below 0 where chance can't be excluded."""
        return self.together.low - self.chance


def metadata_baseline(
    metadata: FileMetadata,
    targets: Int64[np.ndarray, " file"],
    linked: Int64[np.ndarray, " file"],
    class_names: tuple[str, ...],
) -> MetadataBaseline | None:
    """Predict labels from metadata.

    Args:
        metadata: of each file; of a random sample of ``SAMPLE`` files where there are more.
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

    values, linked = metadata.values, np.unique(linked, return_inverse=True)[1]
    independent = [len(np.unique(linked[targets == k])) for k in range(len(class_names))]
    if len(class_names) < 2 or min(independent) < FEWEST:
        return None
    folds = folds_of(targets, linked)

    forest = ExtraTreesClassifier(30, min_samples_leaf=3, class_weight="balanced", random_state=0, n_jobs=1)
    stump = DecisionTreeClassifier(max_leaf_nodes=8, min_samples_leaf=5, class_weight="balanced", random_state=0)
    commonest = DummyClassifier(strategy="most_frequent")

    def score(name: str, columns: Any, model: Any, typical: tuple[str, ...] = ()) -> BaselineScore:
        with parallel_config("threading", n_jobs=min(FOLDS, usable_cpus())):  # fitting trees releases the GIL
            right = cross_val_predict(model, values[:, columns], targets, cv=PredefinedSplit(folds)) == targets
        of_class = [right[targets == k] for k in range(len(class_names))]
        intervals = [_interval(some, linked[targets == k]) for k, some in enumerate(of_class)]
        recalls = [float(some.mean()) for some in of_class]
        return BaselineScore(name, float(np.mean(recalls)), *mean_of(recalls, intervals), typical)

    varied = np.array([len(np.unique(column)) > 1 for column in values.T])
    if not varied.any():
        return None
    single = [
        score(name, [k], stump, _typical(metadata, values, k, targets, len(class_names)))
        for k, name in enumerate(metadata.names)
        if varied[k]
    ]
    everything = np.flatnonzero(varied)
    file_only = np.flatnonzero(varied & ~np.array(metadata.from_pixels))
    return MetadataBaseline(
        together=score("all of these", everything, forest),
        file_alone=score("the file alone", file_only, forest if file_only.size else commonest),
        single=tuple(sorted(single, key=lambda one: -one.balanced_accuracy)),
        chance=1 / len(class_names),
        n=len(targets),
        class_names=class_names,
    )


def baseline_finding(found: MetadataBaseline) -> Finding | None:
    """The finding where metadata predicts labels clearly better than chance; None elsewhere."""
    if found.margin <= CLEARLY / 2:
        return None
    severity = "problem" if found.margin > 2.5 * CLEARLY else "warning" if found.margin > CLEARLY else "note"
    best = found.single[0]
    strongest = (
        f" The strongest predictor is {best.name} ({percent(best.balanced_accuracy)} alone: "
        + ", ".join(f"{name} {words}" for name, words in list(zip(found.class_names, best.typical, strict=True))[:4])
        + ")."
    )
    return Finding(
        "give_away",
        severity,
        "Metadata predicts the label",
        f"{sentence(found)}{strongest} A network can score as well without learning what the classes look like. Convert "
        "all classes to the same size, format and brightness, or get them from the same source.",
        1,
    )


def sentence(found: MetadataBaseline) -> str:
    """The result in one sentence, with its interval and chance."""
    one = found.together
    if found.margin <= 0:
        return (
            f"Metadata doesn't clearly predict the label: size, format, bytes and brightness give a balanced "
            f"accuracy of {percent(one.balanced_accuracy)} (95 % interval {percent(one.low)} to "
            f"{percent(one.high)}), no clear gain over chance ({percent(found.chance)})."
        )
    return (
        f"The label can be predicted without looking at the picture: with a balanced accuracy of "
        f"{percent(one.balanced_accuracy)} (95 % interval {percent(one.low)} to {percent(one.high)}; chance gives "
        f"{percent(found.chance)}), from its size, format, bytes and brightness."
    )


def percent(share: float) -> str:
    """Format a share in per cent, with a digit more near 0 and 1."""
    return f"{100 * share:.1f} %" if 0.95 < share < 1 or 0 < share < 0.05 else f"{100 * share:.0f} %"


def _interval(right: Bool[np.ndarray, " file"], linked: Int64[np.ndarray, " file"]) -> Interval:
    return proportion(right, None if len(np.unique(linked)) == len(linked) else linked)


def folds_of(targets: Int64[np.ndarray, " file"], linked: Int64[np.ndarray, " file"]) -> Int64[np.ndarray, " file"]:
    """Assign a fold to each file: groups at random, stratified by class."""
    linked = np.unique(linked, return_inverse=True)[1]
    first = np.unique(linked, return_index=True)[1]
    order = np.random.default_rng(0).permutation(len(first))
    order = order[np.argsort(targets[first][order], kind="stable")]
    fold_of = np.empty(len(first), np.int64)
    fold_of[order] = np.arange(len(first)) % FOLDS
    return np.asarray(fold_of[linked])


def _typical(
    metadata: FileMetadata,
    values: Float[np.ndarray, "file column"],
    k: int,
    targets: Int64[np.ndarray, " file"],
    classes: int,
) -> tuple[str, ...]:
    """The median of a number, or the most frequent word with its share, in each class."""
    usual = []
    for number in range(classes):
        column = values[targets == number, k]
        if metadata.words[k]:
            codes = np.bincount(column.astype(np.int64))
            word = metadata.words[k][int(codes.argmax())] or "none"
            usual.append(f"{word} {percent(codes.max() / codes.sum())}")
        else:
            usual.append(f"{np.median(column):,.4g}" if abs(np.median(column)) < 1000 else f"{np.median(column):,.0f}")
    return tuple(usual)
