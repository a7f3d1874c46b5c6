"""Several runs on the same test images: which is better, and is that more than chance?

Covers reading the runs, making sure that they were tested on the same images (by content, not by name), joining the folds
of a cross-validation, and the tests of every pair. Leaves out the statistics (``paired``) and the files that are
written (``comparison_files``).
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from raylight.errors import RaylightError, RunError
from raylight.evaluation.metrics import Estimate, evaluate
from raylight.evaluation.paired import Comparison, compare, holm
from raylight.evaluation.predictions import UNKNOWN, Predictions, read_csv
from raylight.report.facts import RunFacts, parameters_of
from raylight.runs.run_dir import STATUS_FILE, RunDir, state_of
from raylight.runs.sweep_dir import overrides_of, run_folders

EXAMPLES = 3
"""Images named when test sets differ."""

OWN_TO_A_RUN = (
    "data.fold",
    "trainer.precision",
    "trainer.channels_last",
    "trainer.threads",
    "logger",
    "notes",
    "resume",
    "cache_dir",
)
"""Settings that may differ between the folds of one cross-validation."""


class IncomparableError(RaylightError):
    """Runs that can't be compared, because their test images differ or a run has no result."""

    exit_code = 2


@dataclass(frozen=True)
class Entrant:
    """A model that is compared: a run, or the folds of a cross-validation.

    Attributes:
        name: tells it from the others.
        facts: of its run, or of its first fold.
        images: predictions with the content's SHA-256 in place of paths, all of known class.
        paths: file of each content.
        threshold: on the positive class's probability; None stands for 0.5.
        estimates: of every metric.
        seconds: of training, of all folds together.
        parameters: of the network.
    """

    name: str
    facts: RunFacts
    images: Predictions
    paths: Mapping[str, str]
    threshold: float | None
    estimates: Mapping[str, Estimate]
    seconds: float | None
    parameters: int | None


@dataclass(frozen=True)
class Pair:
    """Two models, the second seen from the first.

    Attributes:
        first: one model.
        second: the other.
        comparison: counts, p-values and differences, not corrected.
        corrected: p-value of each metric's difference, corrected for the number of pairs.
        only_first: contents that only the first one gets right.
        only_second: contents that only the second one gets right.
    """

    first: Entrant
    second: Entrant
    comparison: Comparison
    corrected: Mapping[str, float]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """What a comparison found.

    Attributes:
        entrants: the models.
        pairs: every two of them.
        notes: what a reader must know of the numbers.
    """

    entrants: tuple[Entrant, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]


def compare_runs(runs: Sequence[Path], out: Path | None) -> int:
    """Compare runs, print the tables, and write the pages.

    Args:
        runs: run folders, or folders of sweeps, of which the finished runs are taken.
        out: folder for ``comparison.csv``, ``.md``, ``.html``, ``disagreements.csv`` and the plots; None prints only.

    Returns:
        0.

    Raises:
        IncomparableError: the runs have no result, or were tested on different images; says how they differ.
    """
    from raylight.compare.study_files import print_study, write_study

    study = study_of(runs)
    files = write_study(study, out) if out is not None else {}
    print_study(study)
    for path in files.values():
        print(path)  # noqa: T201 - the command's result
    return 0


def study_of(runs: Sequence[Path]) -> Study:
    """Read runs and compare every two of them.

    Raises:
        IncomparableError: see ``compare_runs``.
    """
    facts = [RunFacts(run) for path in runs for run in _finished(path)]
    folders = Counter(one.run.path.resolve() for one in facts)
    repeated = [path for path, times in folders.items() if times > 1]
    if repeated:
        raise IncomparableError(f"{repeated[0]} is given twice; compare different runs.")
    if len(facts) < 2:
        raise IncomparableError(f"A comparison needs two runs, {len(facts)} with a result is given.")
    joined = _folds(facts)
    notes = []
    if joined is None or len(joined) > 1:
        notes.append("P-values are corrected for the number of pairs (Holm), each metric by itself.")
    if joined is not None:
        entrants = [
            _joined(name, folds) for name, folds in zip(_names([f[0] for f in joined], True), joined, strict=True)
        ]
        notes.append(
            "The folds of each cross-validation are joined: every image is judged by the network that didn't train on it. "
            "That network's checkpoint and calibration were chosen on the same images, which flatters all alike."
        )
        folds_of, held = int(joined[0][0].config.data.folds or 0), _held(joined[0])
        if missing := [fold for fold in range(folds_of) if fold not in held]:
            notes.append(
                f"Of {folds_of} folds {_listed(missing)} isn't there: this is the result on the others' images."
            )
        if any(len({one.threshold for one in folds}) > 1 for folds in joined):
            notes.append("The folds chose different decision thresholds; here 0.5 decides for all.")
    else:
        entrants = [_entrant(name, one) for name, one in zip(_names(facts), facts, strict=True)]
    _check_same_images(entrants)
    entrants = [entrants[0], *(_in_order_of(entrants[0], other) for other in entrants[1:])]
    grouped = entrants[0].images.groups is not None
    if len(entrants) == 1:
        notes.append("Intervals are 95 %" + (", and count groups instead of images." if grouped else "."))
        return Study(tuple(entrants), (), tuple(notes))
    notes.append(
        "The p-value of accuracy is McNemar's, from the images on which two models disagree, and its interval Tango's"
        + (", counting groups instead of images" if grouped else "")
        + "; other metrics' come from exchanging the two models' outputs at random. Intervals are 95 % and exclude 0 where "
        "p < 0.05."
    )
    return Study(tuple(entrants), tuple(_pairs(entrants)), tuple(notes))


def _finished(path: Path) -> Iterator[RunDir]:
    """The runs that a path stands for."""
    if (path / STATUS_FILE).is_file():
        run = RunDir.open(path)
        state = state_of(run)
        if state != "finished":
            raise IncomparableError(f"{path} has no result to compare: it is {state}.")
        yield run
        return
    runs = run_folders(path) if path.is_dir() else []
    if not runs:
        raise IncomparableError(f"{path} is neither a run folder nor the folder of a sweep.")
    for run in runs:
        try:
            done = state_of(run) == "finished"
        except RunError:  # killed while it was being made
            done = False
        if done:
            yield run


def _entrant(name: str, facts: RunFacts) -> Entrant:
    images, paths = _by_content(facts, "test")
    return Entrant(
        name=name,
        facts=facts,
        images=images,
        paths=paths,
        threshold=facts.threshold,
        estimates=_recorded(facts) or evaluate(images, facts.threshold),
        seconds=facts.cost.get("seconds", {}).get("training"),
        parameters=parameters_of(facts.run),
    )


def _joined(name: str, folds: Sequence[RunFacts]) -> Entrant:
    """The held-out predictions of all folds as those of one model."""
    parts = [_by_content(fold, "val") for fold in folds]
    groups = [group for images, _ in parts for group in (images.groups or [None] * len(images))]
    images = replace(
        parts[0][0],
        paths=[path for images, _ in parts for path in images.paths],
        splits=[split for images, _ in parts for split in images.splits],
        labels=np.concatenate([images.labels for images, _ in parts]),
        probabilities=np.concatenate([images.probabilities for images, _ in parts]),
        groups=groups if any(group is not None for group in groups) else None,
    )
    thresholds = {fold.threshold for fold in folds}
    threshold = thresholds.pop() if len(thresholds) == 1 else None
    times = [fold.cost.get("seconds", {}).get("training") for fold in folds]
    return Entrant(
        name=name,
        facts=folds[0],
        images=images,
        paths={key: path for _, paths in parts for key, path in paths.items()},
        threshold=threshold,
        estimates=evaluate(images, threshold),
        seconds=sum(times) if None not in times else None,
        parameters=parameters_of(folds[0].run),
    )


def _by_content(facts: RunFacts, split: str) -> tuple[Predictions, dict[str, str]]:
    """Predictions of a split with contents in place of paths; a content that comes twice is numbered."""
    predictions = read_csv(facts.run / "predictions.csv", str(facts.input["positive_class"])).subset(split)
    predictions = predictions.where(predictions.labels != UNKNOWN)
    hashes = dict(zip(facts.index.column("path"), facts.index.column("sha256"), strict=True))
    seen: Counter[str] = Counter()
    keys = {}
    for path in sorted(predictions.paths):
        content = hashes[path]
        seen[content] += 1
        keys[path] = content if seen[content] == 1 else f"{content} {seen[content]}"
    images = replace(predictions, paths=[keys[path] for path in predictions.paths])
    return images, {key: path for path, key in keys.items()}


def _recorded(facts: RunFacts) -> dict[str, Estimate] | None:
    """The metrics as the run recorded them; None where one isn't defined."""
    found = facts.measured()
    if any(one.value is None or one.low is None or one.high is None for one in found.values()):
        return None
    return {
        name: Estimate(float(one.value or 0), float(one.low or 0), float(one.high or 0), one.n, "as recorded")
        for name, one in found.items()
    }


def _folds(facts: Sequence[RunFacts]) -> list[list[RunFacts]] | None:
    """The runs by configuration, when they are the folds of cross-validations; None when they aren't.

    Raises:
        IncomparableError: a fold that one configuration has is missing in another, or comes twice.
    """
    if any(one.config.data.fold is None for one in facts):
        return None
    groups: dict[tuple[tuple[str, str], ...], list[RunFacts]] = {}
    for one in facts:
        groups.setdefault(_identity(one), []).append(one)
    if all(len(folds) == 1 for folds in groups.values()):
        return None  # one fold of each: an ordinary comparison on the test images
    held = [_held(folds) for folds in groups.values()]
    names = _names([folds[0] for folds in groups.values()], True)
    for name, folds in zip(names, held, strict=True):
        if folds != held[0] or len(set(folds)) < len(folds):
            raise IncomparableError(
                f"The folds don't match: {names[0]} has {_listed(held[0])}, {name} has {_listed(folds)}. "
                "Give each fold of each configuration once."
            )
    return list(groups.values())


def _held(folds: Sequence[RunFacts]) -> list[int]:
    """The folds that were held out, in order."""
    return sorted(int(one.config.data.fold or 0) for one in folds)


def _identity(facts: RunFacts) -> tuple[tuple[str, str], ...]:
    def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if key in OWN_TO_A_RUN:
                continue
            if isinstance(value, Mapping):
                yield from leaves(value, f"{key}.")
            else:
                yield key, repr(value)

    return tuple(sorted(leaves(facts.settings)))


def _names(facts: Sequence[RunFacts], joined: bool = False) -> list[str]:
    """What tells runs apart: the overrides that differ, else the model, with the folder's name where that isn't enough."""
    chosen = [
        [text.lstrip("+") for text in overrides_of(one.run) or () if not (joined and text.startswith("data.fold="))]
        for one in facts
    ]
    shared = set(chosen[0]).intersection(*chosen[1:])
    names = []
    for one, overrides in zip(facts, chosen, strict=True):
        differing = [text for text in overrides if text not in shared]
        model = [] if any(text.startswith("model=") for text in differing) else [one.config.model.name]
        names.append(" ".join(model + differing))
    times = Counter(names)
    return [
        name if times[name] == 1 else f"{name} ({one.run.path.name})" for name, one in zip(names, facts, strict=True)
    ]


def _check_same_images(entrants: Sequence[Entrant]) -> None:
    first = entrants[0]
    for other in entrants[1:]:
        if first.images.class_names != other.images.class_names:
            raise IncomparableError(
                f"The runs know different classes: {first.name} {', '.join(first.images.class_names)}; "
                f"{other.name} {', '.join(other.images.class_names)}."
            )
        if first.images.positive_class != other.images.positive_class:
            raise IncomparableError(
                f"The positive class differs: {first.name} speaks of {first.images.positive_class}, {other.name} of "
                f"{other.images.positive_class}. Train one of them again with the other's data.positive_class."
            )
        ours, theirs = set(first.images.paths), set(other.images.paths)
        if ours != theirs:
            raise IncomparableError(
                f"The runs were tested on different images: {len(ours & theirs)} are in both; "
                f"{_only(first, ours - theirs)}; {_only(other, theirs - ours)}. {_remedy(first, other)}"
            )
        labels = dict(zip(other.images.paths, other.images.labels.tolist(), strict=True))
        pairs = zip(first.images.paths, first.images.labels.tolist(), strict=True)
        relabelled = sorted(first.paths[key] for key, label in pairs if labels[key] != label)
        if relabelled:
            raise IncomparableError(
                f"The runs were tested on different labels: {len(relabelled)} of {len(ours)} images have another class in "
                f"{other.name} than in {first.name} ({_listed(relabelled[:EXAMPLES])})."
            )


def _only(entrant: Entrant, keys: set[str]) -> str:
    paths = sorted(entrant.paths[key] for key in keys)
    examples = f" ({_listed(paths[:EXAMPLES])}{', ...' if len(paths) > EXAMPLES else ''})" if paths else ""
    return f"{len(paths)} only in {entrant.name}{examples}"


def _remedy(first: Entrant, other: Entrant) -> str:
    seeds = first.facts.config.split_seed, other.facts.config.split_seed
    if seeds[0] != seeds[1]:
        return (
            f"They were split by different seeds ({seeds[0]} and {seeds[1]}): train them with the same data.split_seed, for "
            f"example data.split_seed={seeds[0]}, which leaves seed free to differ."
        )
    return "Train them on the same files with the same data.* settings."


def _in_order_of(first: Entrant, other: Entrant) -> Entrant:
    where = {key: i for i, key in enumerate(other.images.paths)}
    order = np.array([where[key] for key in first.images.paths], np.int64)
    images = replace(
        other.images,
        paths=first.images.paths,
        splits=[other.images.splits[i] for i in order],
        labels=other.images.labels[order],
        probabilities=other.images.probabilities[order],
        groups=first.images.groups,
    )
    return replace(other, images=images)


def _pairs(entrants: Sequence[Entrant]) -> list[Pair]:
    couples = list(itertools.combinations(entrants, 2))
    found = [compare(a.images, b.images, (a.threshold, b.threshold)) for a, b in couples]
    metrics = list(found[0].differences)
    corrected = {name: holm([one.differences[name].p_value for one in found]) for name in metrics}
    return [
        Pair(
            first=a,
            second=b,
            comparison=one,
            corrected={name: corrected[name][i] for name in metrics},
            only_first=_right_in_first(a, b),
            only_second=_right_in_first(b, a),
        )
        for i, ((a, b), one) in enumerate(zip(couples, found, strict=True))
    ]


def right(entrant: Entrant) -> np.ndarray:
    """Which images a model gives their class."""
    correct: np.ndarray = entrant.images.predicted(entrant.threshold) == entrant.images.labels
    return correct


def _right_in_first(first: Entrant, second: Entrant) -> tuple[str, ...]:
    """Contents that the first model gets right and the second wrong, those first where the second is surest."""
    positions = np.flatnonzero(right(first) & ~right(second))
    sureness = second.images.probabilities.max(axis=1)[positions]
    return tuple(first.images.paths[i] for i in positions[np.argsort(-sureness, kind="stable")])


def _listed(items: Sequence[object]) -> str:
    return ", ".join(map(str, items))
