"""Replicates, read from run folders: runs, and cross-validations whose folds are joined.

Covers the runs that a path stands for, their predictions by the content of images (not by file name), and joining folds.
Leaves out grouping them by recipe (``recipes``).
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool

from raylight.config.rules.decision_rule import parse_rule
from raylight.errors import RaylightError, RunError
from raylight.evaluation.calibration import calibrated, fit_temperature
from raylight.evaluation.metrics import Estimate, evaluate
from raylight.evaluation.predictions import UNKNOWN, Predictions, read_csv
from raylight.report.facts import RunFacts, parameters_of
from raylight.report.results import HELD_OUT_FILE
from raylight.runs.run_dir import STATUS_FILE, RunDir, state_of
from raylight.runs.sweep_dir import run_folders


class IncomparableError(RaylightError):
    """Runs that can't be compared: one has no result, or they are about different classes."""

    exit_code = 2


@dataclass(frozen=True)
class Replicate:
    """One repetition of a recipe with a seed of its own: a run, or the folds of a cross-validation.

    Attributes:
        runs: its run, or those of its folds.
        images: predictions with the content's SHA-256 in place of paths, all of known class.
        paths: file of each content.
        threshold: on the positive class's probability; None stands for 0.5.
        estimates: of every metric.
        seconds: of training, of all folds together.
        parameters: of the network.
        chosen_on_test: whether the checkpoints were chosen on the images that they are evaluated on here.
    """

    runs: tuple[RunFacts, ...]
    images: Predictions
    paths: Mapping[str, str]
    threshold: float | None
    estimates: Mapping[str, Estimate]
    seconds: float | None
    parameters: int | None
    chosen_on_test: bool = False

    @property
    def facts(self) -> RunFacts:
        """The facts of its run, or of its first fold."""
        return self.runs[0]

    @property
    def seed(self) -> int:
        """The seed that it was trained with."""
        return self.facts.config.seed

    @property
    def right(self) -> Bool[np.ndarray, " image"]:
        """Whether each image is classified correctly."""
        correct: Bool[np.ndarray, " image"] = self.images.predicted(self.threshold) == self.images.labels
        return correct


def runs_at(paths: Sequence[Path]) -> list[RunFacts]:
    """Read the runs that paths stand for: run folders, or the finished runs of a sweep.

    Raises:
        IncomparableError: a path is neither, a run has no result, or a run is given twice.
    """
    found = [RunFacts(run) for path in paths for run in _finished(path)]
    folders = Counter(one.run.path.resolve() for one in found)
    repeated = [path for path, times in folders.items() if times > 1]
    if repeated:
        raise IncomparableError(f"{repeated[0]} is given twice; compare different runs.")
    return found


def single_run(facts: RunFacts) -> Replicate:
    """Read a run as a replicate, evaluated on its test images."""
    images, paths = by_content(facts, read_csv(facts.run / "predictions.csv", _positive(facts)).subset("test"))
    return Replicate(
        runs=(facts,),
        images=images,
        paths=paths,
        threshold=facts.threshold,
        estimates=_recorded(facts) or evaluate(images, facts.threshold),
        seconds=facts.cost.get("seconds", {}).get("training"),
        parameters=parameters_of(facts.run),
    )


def joined_folds(folds: Sequence[RunFacts]) -> Replicate:
    """Join the folds of a cross-validation: the held-out predictions of all folds as those of one model.

    Nothing is chosen on the images that evaluate it: each fold's network is that of its last epoch, the temperature is
    fitted on the other folds, and the threshold is the config's, or 0.5 where that is a rule. Folds from before the last
    epoch's predictions were kept are evaluated at the epoch that the held-out images chose.
    """
    kept = all((fold.run / HELD_OUT_FILE).is_file() for fold in folds)
    name = HELD_OUT_FILE if kept else "predictions.csv"
    read = [by_content(fold, read_csv(fold.run / name, _positive(fold)).subset("val")) for fold in folds]
    parts = [images for images, _ in read]
    images = joined(parts, calibrate=kept and folds[0].config.decision.calibrate)
    rule = parse_rule(folds[0].config.decision.threshold)
    threshold = rule.value if rule.kind == "fixed" and len(images.class_names) == 2 else None
    times = [fold.cost.get("seconds", {}).get("training") for fold in folds]
    return Replicate(
        runs=tuple(folds),
        images=images,
        paths={key: path for _, paths in read for key, path in paths.items()},
        threshold=threshold,
        estimates=evaluate(images, threshold),
        seconds=sum(times) if None not in times else None,
        parameters=parameters_of(folds[0].run),
        chosen_on_test=not kept,
    )


def joined(parts: Sequence[Predictions], calibrate: bool) -> Predictions:
    """Join the held-out predictions of all folds.

    Args:
        parts: of each fold.
        calibrate: scale each fold by the temperature fitted on the other folds.
    """
    if calibrate and len(parts) > 1:
        temperatures = [fit_temperature(_joined([*parts[:i], *parts[i + 1 :]])) for i in range(len(parts))]
        parts = [calibrated(part, temperature) for part, temperature in zip(parts, temperatures, strict=True)]
    return _joined(parts)


def by_content(facts: RunFacts, predictions: Predictions) -> tuple[Predictions, dict[str, str]]:
    """Identify images by content instead of path; repeated contents are numbered."""
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


def held_folds(runs: Sequence[RunFacts]) -> list[int]:
    """The folds that were held out, in order."""
    return sorted(int(one.config.data.fold or 0) for one in runs)


def _finished(path: Path) -> Iterator[RunDir]:
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
        except RunError:  # killed while its folder was being made
            done = False
        if done:
            yield run


def _joined(parts: Sequence[Predictions]) -> Predictions:
    return replace(
        parts[0],
        paths=[path for images in parts for path in images.paths],
        splits=[split for images in parts for split in images.splits],
        labels=np.concatenate([images.labels for images in parts]),
        probabilities=np.concatenate([images.probabilities for images in parts]),
        groups=[group for images in parts for group in (images.groups or [None] * len(images))],
    )


def _positive(facts: RunFacts) -> str:
    return str(facts.input["positive_class"])


def _recorded(facts: RunFacts) -> dict[str, Estimate] | None:
    """The metrics as the run recorded them; None where one isn't defined."""
    found = facts.measured()
    if any(one.value is None or one.low is None or one.high is None for one in found.values()):
        return None
    return {
        name: Estimate(
            float(one.value or 0), float(one.low or 0), float(one.high or 0), one.n, "as recorded", one.caveat
        )
        for name, one in found.items()
    }
