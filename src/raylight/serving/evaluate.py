"""``raylight evaluate``: a run evaluated again, on its own test images or on new data.

The network, the temperature and the threshold are the run's; nothing is fitted here. Which images: ``labelled_images``.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from raylight.config.rules.metric_names import LABELS, reported
from raylight.data.names import single_line
from raylight.data.splits.subgroups import subgroups_of_metadata
from raylight.errors import ConfigError, DataError, RunError
from raylight.evaluation.clinical.prediction_powered import powered_accuracy
from raylight.evaluation.clinical.subgroups import Subgroup, subgroup_results
from raylight.evaluation.definitions.own import OwnMetrics
from raylight.evaluation.differences.paired import recovered
from raylight.evaluation.metrics import Estimate, evaluate, from_json
from raylight.evaluation.predictions import Predictions
from raylight.report.subgroups import sentences
from raylight.runs.console import progress_bar
from raylight.runs.looks import look_notice
from raylight.runs.run_dir import STATUS_FILE, RunDir
from raylight.serving.evaluation import Evaluation, Shift, print_evaluation, write_evaluation
from raylight.serving.labelled_images import LabelledImages, foreign_images, own_test_images, parse_classes
from raylight.serving.predict import find_files
from raylight.serving.predictor import UNLIKE, Predictor, UnusableRunError
from raylight.storage.remote import AnyPath

SAME = 1e-6
"""Largest difference of a metric that counts as none; sums in blocks round in the seventh digit."""


def evaluate_run(
    run: Path, data: str | None, classes: str | None, out: Path | None, unlabelled: Path | None = None
) -> int:
    """Evaluate a run and print each metric with its interval; beside another folder's, the run's own and the shift.

    Args:
        run: a finished run's folder.
        data: a folder in any layout that training knows, a CSV, or the URI of either, with classes of the run. If it ships a
            test split, only that is used, else all of it. ``None`` takes the run's own test images from their folder.
        classes: the run's classes under the names that the data uses: ``cats=cat,dogs=dog``.
        out: folder for ``metrics.json`` and ``predictions.csv``; not a run's own.
        unlabelled: folder with further images from the same source as ``data``, for a more precise estimate of its accuracy.

    Returns:
        0. Files of ``data`` that can't be used are named and left out.

    Raises:
        RaylightError: the run or the data can't be used, or ``out`` is a run folder.
    """
    if out is not None and (out / STATUS_FILE).exists():
        raise ConfigError(
            [f"--out: {out} is a run folder, whose own results would be overwritten; name another folder"]
        )
    if unlabelled is not None and data is None:
        raise ConfigError(["--unlabelled: needs --data, labelled images from the same source"])

    def report(path: str, why: str) -> None:
        sys.stderr.write(f"{single_line(path)}: {why}\n")

    outcome = evaluated(run, data, classes, report)
    if unlabelled is not None:
        outcome = _with_unlabelled(outcome, unlabelled, report)
    print_evaluation(outcome)
    if out is not None:
        write_evaluation(outcome, out)
    return 0


def evaluated(
    run: Path, data: str | None, classes: str | None, on_rejected: Callable[[str, str], object] = lambda *_: None
) -> Evaluation:
    """Evaluate a run, as ``evaluate_run`` does, without printing.

    Args:
        run: see ``evaluate_run``, as for the next two.
        data: the images.
        classes: names of classes.
        on_rejected: called with path and reason of each file of ``data`` that can't be used.

    Raises:
        RaylightError: the run or the data can't be used.
    """
    if classes and data is None:
        raise ConfigError(["--classes: needs --data, whose classes it names"])
    names = parse_classes(classes) if classes else {}
    predictor = Predictor.open(run)
    own = _own_estimates(predictor.run)
    images = own_test_images(predictor) if data is None else foreign_images(predictor, data, names)
    predictions, rejected, strange = _predict(predictor, images)
    if rejected and data is None:
        raise DataError(_moved(images.root, rejected, len(images.paths)))
    for path, reason in rejected:
        on_rejected(path, reason)
    if not len(predictions):
        raise DataError(f"None of the {len(images.paths)} images in {images.root} can be used.")
    notes = list(images.notes)
    if rejected:
        notes.append(f"{len(rejected)} of {len(images.paths)} files can't be used and were left out.")
    if strange is not None:
        notes.append(
            f"{strange} of {len(predictions)} images are unlike all training images; `raylight predict` gives "
            "them no class, and the metrics count them."
        )
    if data is None:
        notes.append(look_notice(predictor.run, "evaluate"))
    try:
        further = OwnMetrics(predictor.config.metrics, len(predictor.class_names), predictor.positive)
    except ConfigError as error:
        further = None
        notes.append(f"The run's own metrics are left out: {error.problems[0]}.")
    estimates = evaluate(predictions, predictor.threshold, own=further)
    shifts = {} if data is None else {name: shift(one, own[name]) for name, one in estimates.items() if name in own}
    notes += _agreement(estimates, own) if data is None else _summary(shifts)
    subgroups, subgroup_notes = _subgroups(predictor, images, predictions)
    notes += subgroup_notes
    return Evaluation(
        predictor, images, predictions, rejected, estimates, own, shifts, tuple(notes), subgroups=subgroups
    )


def _subgroups(
    predictor: Predictor, images: LabelledImages, predictions: Predictions
) -> tuple[tuple[Subgroup, ...], list[str]]:
    """The subgroups that the run's settings name, as far as the images' table has them, and what is said of them."""
    columns = predictor.config.report.subgroups
    if not columns:
        return (), []
    told = dict(zip(images.paths, images.metadata, strict=True))
    membership, missing = subgroups_of_metadata([told[path] for path in predictions.paths], columns)
    found = subgroup_results(predictions, predictor.threshold, membership)
    said = sentences(found, predictions)
    if missing:
        said.append(f"Without subgroups by {', '.join(missing)}: no table says that of these images.")
    return tuple(found), said


def _with_unlabelled(outcome: Evaluation, folder: Path, on_rejected: Callable[[str, str], object]) -> Evaluation:
    """The outcome with the accuracy that unlabelled images of the same kind sharpen."""
    predictor, found = outcome.predictor, find_files([folder])
    for path, problem in found.problems:
        on_rejected(str(path), problem)
    confidences = [np.zeros(0)]
    for block in predictor.predict_files(found.files):
        for position, reason in zip(block.positions, block.reasons, strict=True):
            if reason is not None:
                on_rejected(str(found.files[position]), reason)
        given = predictor.decide(block.probabilities)
        confidences.append(block.probabilities[np.arange(len(given)), given])
    labelled = outcome.predictions.labelled(predictor.threshold)
    sure = labelled.probabilities[np.arange(len(labelled.labels)), labelled.predicted]
    unlabelled = np.concatenate(confidences)
    if min(len(sure), len(unlabelled)) < 2:
        raise DataError(f"--unlabelled: {folder} has {len(unlabelled)} usable images; two at least are needed.")
    powered = powered_accuracy(labelled.predicted == labelled.labels, sure, unlabelled, labelled.groups)
    return replace(outcome, powered=powered, notes=(*outcome.notes, powered.sentence()))


def shift(new: Estimate, own: Estimate) -> Shift:
    """How much a metric differs between two independent sets of images."""
    return Shift(new.value - own.value, recovered(own, new, correlation=0.0))


def _predict(predictor: Predictor, images: LabelledImages) -> tuple[Predictions, list[tuple[str, str]], int | None]:
    """Predictions of the usable files, path and reason of the others, and how many are unlike all that was learnt, if asked."""
    strange = 0
    rejected: list[tuple[str, str]] = []
    kept: list[int] = []
    probabilities = [np.zeros((0, len(predictor.class_names)))]
    done = 0
    with progress_bar("evaluating", "auto") as on_progress:
        for block in predictor.predict_files([images.root / path for path in images.paths], images.digests):
            probabilities.append(block.probabilities)
            strange += block.refused.count(UNLIKE)
            kept += block.positions[block.ok].tolist()
            bad = [
                (position, reason) for position, reason in zip(block.positions, block.reasons, strict=True) if reason
            ]
            rejected += [(images.paths[position], reason) for position, reason in bad]
            done += len(block.positions)
            on_progress(done, len(images.paths))
    predictions = Predictions(
        paths=[images.paths[i] for i in kept],
        splits=["test"] * len(kept),
        labels=images.labels[kept],
        probabilities=np.concatenate(probabilities),
        class_names=predictor.class_names,
        positive_class=predictor.positive_class,
        groups=[images.groups[i] for i in kept],
    )
    return predictions, rejected, strange if predictor.familiarity is not None else None


def _own_estimates(run: RunDir) -> dict[str, Estimate]:
    """The run's own test metrics, as ``metrics.json`` has them."""
    try:
        metrics = run.read_json("metrics.json")
    except RunError as error:
        raise UnusableRunError(str(error)) from error
    own = from_json(metrics, "test/")
    return {name: own[name] for name in reported(metrics)}


def _moved(root: AnyPath, rejected: Sequence[tuple[str, str]], total: int) -> str:
    shown = [f"  {path}: {reason}" for path, reason in rejected[:5]]
    if len(rejected) > len(shown):
        shown.append(f"  ... and {len(rejected) - len(shown)} more")
    return "\n".join(
        [
            f"{len(rejected)} of the run's {total} test images in {root} are missing or have changed:",
            *shown,
            "If they have moved, name their new folder with --data FOLDER.",
        ]
    )


def _agreement(estimates: Mapping[str, Estimate], own: Mapping[str, Estimate]) -> list[str]:
    """Whether the metrics equal those of the run's own test."""
    apart = {
        LABELS[name]: abs(estimates[name].value - own[name].value)
        for name in estimates
        if name in own and not np.isclose(estimates[name].value, own[name].value, rtol=0, atol=SAME, equal_nan=True)
    }
    if not own:
        return []
    if not apart:
        return ["The same numbers as in the run's metrics.json."]
    worst = max(apart, key=lambda name: apart[name])
    return [
        f"{len(apart)} metrics differ from the run's metrics.json, most of all {worst} by {apart[worst]:.2g}; "
        "another processor or precision rounds differently."
    ]


def _summary(shifts: Mapping[str, Shift]) -> list[str]:
    """How accuracy and calibration differ from the run's own test, a sentence each."""
    sentences = []
    for name, better in (("accuracy", "higher"), ("ece", "lower")):
        change = shifts.get(name)
        if change is None or np.isnan(change.value):
            continue
        clear = change.interval.low > 0 or change.interval.high < 0
        improved = (change.value > 0) == (better == "higher")
        relation = ("better than" if improved else "worse than") if clear else "not clearly different from"
        sentences.append(
            f"{LABELS[name].capitalize()} is {relation} that on the run's own test images: {change.value:+.3f} "
            f"(95 % interval {change.interval.low:+.3f} to {change.interval.high:+.3f})."
        )
    return sentences
