"""``raylight evaluate``: a run judged again, on its own test images or on a folder that it never saw.

The network, the temperature and the threshold are the run's; nothing is fitted here. Images that the run trained on or
chose by are left out of any folder, by their content; near-duplicates of them aren't looked for.
"""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from raylight.config.metric_names import LABELS, METRICS
from raylight.config.schema import DataConfig
from raylight.data.names import on_one_line, same_name
from raylight.data.sources.layouts import SourceFile
from raylight.data.sources.passed_over import kinds_passed_over
from raylight.data.sources.source import find_images
from raylight.errors import ConfigError, DataError, RunError
from raylight.evaluation.caveats import caveat_sentences
from raylight.evaluation.intervals import Interval
from raylight.evaluation.metrics import Estimate, as_json, evaluate
from raylight.evaluation.predictions import Predictions, write_csv
from raylight.runs.looks import counted
from raylight.runs.machine import usable_cpus
from raylight.runs.progress import progress_bar
from raylight.runs.run_dir import STATUS_FILE, RunDir
from raylight.serving.predictor import Predictor, UnusableRunError, read_index
from raylight.storage.remote import Place

SAME = 1e-6
"""Largest difference of a metric that counts as none; piecewise sums round in the seventh digit."""


@dataclass(frozen=True, eq=False)
class Images:
    """Labelled files to judge a run on.

    Attributes:
        root: folder that paths are relative to.
        paths: the files.
        labels: position of each file's class in the run's ``class_names``.
        groups: patient of each file; ``None`` where nobody says.
        digests: SHA-256 that each file should have; ``None`` takes whatever is there.
        notes: what was chosen and left out, a sentence each.
    """

    root: Place
    paths: tuple[str, ...]
    labels: Int64[np.ndarray, " file"]
    groups: tuple[str | None, ...]
    digests: tuple[str, ...] | None
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Shift:
    """How much a metric differs from the run's own test.

    Attributes:
        value: new minus own.
        interval: 95 %, of two independent samples.
    """

    value: float
    interval: Interval


def evaluate_run(run: Path, data: Path | None, out: Path | None) -> int:
    """Judge a run and print each metric with its interval; beside another folder's, the run's own and the shift.

    Args:
        run: a finished run's folder.
        data: a folder in any layout that training knows, with the run's classes (upper and lower case are alike). If
            it ships a test split, that alone is judged, else all of it. ``None`` takes the run's own test images from
            where they were.
        out: folder for ``metrics.json`` and ``predictions.csv``; not a run's own.

    Returns:
        0. Files of ``data`` that can't be used are named and left out.

    Raises:
        RaylightError: the run or the data can't be used, or ``out`` is a run folder.
    """
    if out is not None and (out / STATUS_FILE).exists():
        raise ConfigError([f"--out: {out} is a run folder, whose own results would be lost; name another folder"])
    predictor = Predictor.open(run)
    own = _own_estimates(predictor.run)
    images = own_test_images(predictor) if data is None else foreign_images(predictor, data)
    predictions, rejected = _predict(predictor, images)
    if rejected and data is None:
        raise DataError(_moved(images.root, rejected, len(images.paths)))
    for path, reason in rejected:
        sys.stderr.write(f"{on_one_line(path)}: {reason}\n")
    if not len(predictions):
        raise DataError(f"None of the {len(images.paths)} images in {images.root} can be used.")
    notes = list(images.notes)
    if rejected:
        notes.append(f"{len(rejected)} of {len(images.paths)} files can't be used and were left out.")
    if data is None:
        notes.append(counted(predictor.run, "evaluate"))
    estimates = evaluate(predictions, predictor.threshold)
    shifts = {} if data is None else {name: shift(estimates[name], own[name]) for name in METRICS if name in own}
    notes += _agreement(estimates, own) if data is None else _summary(shifts)
    _print(predictor, images, len(predictions), estimates, own, shifts, notes)
    if out is not None:
        _write(out, predictor, images, predictions, estimates, own, shifts, rejected)
    return 0


def own_test_images(predictor: Predictor) -> Images:
    """The run's own test images, where they were when it was trained.

    Raises:
        UnusableRunError: the run has no test images.
        DataError: their folder is gone.
    """
    index = predictor.test_images()
    if not len(index):
        raise UnusableRunError(f"{predictor.run.path} has no test images of its own; name some with --data FOLDER.")
    if not index.root.is_dir():
        raise DataError(
            f"The run's test images are no longer in {index.root}. If they have moved, name their new folder with "
            "--data FOLDER; images that the run trained on are then left out by their content."
        )
    return Images(
        root=index.root,
        paths=tuple(index.column("path")),
        labels=index.targets(),
        groups=tuple(index.column("group")),
        digests=tuple(index.column("sha256")),
        notes=(),
    )


def foreign_images(predictor: Predictor, data: Path) -> Images:
    """The images of any folder with the run's classes, without those that the run has learnt from.

    Raises:
        DataError: no such folder, other classes, or nothing that the run hasn't seen.
    """
    config = DataConfig(
        name=data.name, root=str(data), group_pattern=predictor.config.data.group_pattern, kind="folder"
    )
    if not data.is_dir():
        raise DataError(f"--data: there is no folder {data}. Expected a folder of images in class folders.")
    source = find_images(config, Path(predictor.config.cache_dir), groups_needed=False)
    position = _class_positions(predictor.class_names, source.class_names, data)
    shipped = [file for file in source.files if file.split == "test"]
    files: Sequence[SourceFile] = shipped or source.files
    notes = [
        f"It ships a test split: only its {len(files)} images are judged."
        if shipped
        else f"It ships no test split: all {len(files)} images are judged."
    ]
    notes += [kind.sentence for kind in kinds_passed_over(source.ignored, source.class_names)]
    learnt = _learnt_from(predictor, [source.root / file.path for file in files])
    if learnt.all():
        raise DataError(
            f"The run trained on, or chose by, all {len(files)} images in {data}; nothing is left to judge."
        )
    if learnt.any():
        notes.append(f"{learnt.sum()} of them are left out, because the run trained on them or chose by them.")
        files = [file for file, known in zip(files, learnt, strict=True) if not known]
    return Images(
        root=source.root,
        paths=tuple(file.path for file in files),
        labels=np.array([position[file.label] for file in files], dtype=np.int64),
        groups=tuple(file.group for file in files),
        digests=None,
        notes=tuple(notes),
    )


def shift(new: Estimate, own: Estimate) -> Shift:
    """How much a metric differs between two independent sets of images.

    The interval is recovered from the two estimates' own (MOVER; Zou and Donner 2008), so that it keeps their
    lopsidedness; NaN where either has none.
    """
    value = new.value - own.value
    below = np.hypot(new.value - new.low, own.high - own.value)
    above = np.hypot(new.high - new.value, own.value - own.low)
    return Shift(value, Interval(float(value - below), float(value + above)))


def _class_positions(own: Sequence[str], others: Sequence[str], data: Path) -> dict[str, int]:
    """The run's number of each of a folder's classes, by name, whatever its case or Unicode form."""
    positions = {same_name(name): position for position, name in enumerate(own)}
    if {same_name(name) for name in others} != set(positions):
        extra = [name for name in others if same_name(name) not in positions]
        missing = [name for name in own if same_name(name) not in {same_name(other) for other in others}]
        problems = [f"has {', '.join(extra)}, which the run doesn't know"] if extra else []
        problems += [f"lacks {', '.join(missing)}"] if missing else []
        raise DataError(
            f"--data: the classes don't fit. {data} {' and '.join(problems)}; the run tells {', '.join(own)} apart. "
            "Rename the folders, or leave out what doesn't belong."
        )
    return {name: positions[same_name(name)] for name in others}


def _learnt_from(predictor: Predictor, paths: Sequence[Place]) -> Bool[np.ndarray, " file"]:
    """Which files have the very content of an image that the run trained on or chose by.

    Files are read only where their size is that of such an image.
    """
    index = read_index(predictor.run)
    seen = [index.in_split(split) for split in ("train", "val")]
    sizes = {int(size) for part in seen for size in part.column("bytes")}
    digests = {str(digest) for part in seen for digest in part.column("sha256")}

    def known(path: Place) -> bool:
        try:
            return path.stat().st_size in sizes and hashlib.sha256(path.read_bytes()).hexdigest() in digests
        except OSError:
            return False  # the decoder will say why it can't be read

    with ThreadPoolExecutor(usable_cpus()) as pool:
        return np.fromiter(pool.map(known, paths), dtype=bool, count=len(paths))


def _predict(predictor: Predictor, images: Images) -> tuple[Predictions, list[tuple[str, str]]]:
    """Predictions of the usable files, and path and reason of the others."""
    rejected: list[tuple[str, str]] = []
    kept: list[int] = []
    probabilities = [np.zeros((0, len(predictor.class_names)))]
    done = 0
    with progress_bar("evaluating", "auto") as on_progress:
        for block in predictor.predict_files([images.root / path for path in images.paths], images.digests):
            probabilities.append(block.probabilities)
            kept += block.positions[block.ok].tolist()
            bad = [
                (position, reason) for position, reason in zip(block.positions, block.reasons, strict=True) if reason
            ]
            rejected += [(images.paths[position], reason) for position, reason in bad]
            done += len(block.positions)
            on_progress(done, len(images.paths))
    groups = [images.groups[i] for i in kept]
    predictions = Predictions(
        paths=[images.paths[i] for i in kept],
        splits=["test"] * len(kept),
        labels=images.labels[kept],
        probabilities=np.concatenate(probabilities),
        class_names=predictor.class_names,
        positive_class=predictor.positive_class,
        groups=groups if any(group is not None for group in groups) else None,
    )
    return predictions, rejected


def _own_estimates(run: RunDir) -> dict[str, Estimate]:
    """The run's own test metrics, as ``metrics.json`` has them."""
    try:
        metrics = run.read_json("metrics.json")
    except RunError as error:
        raise UnusableRunError(str(error)) from error

    def number(value: float | None) -> float:
        return float("nan") if value is None else float(value)

    own = {name: metrics[f"test/{name}"] for name in METRICS if f"test/{name}" in metrics}
    return {
        name: Estimate(
            number(facts["value"]),
            number(facts["low"]),
            number(facts["high"]),
            int(facts["n"]),
            "",
            facts.get("caveat"),
        )
        for name, facts in own.items()
    }


def _moved(root: Place, rejected: Sequence[tuple[str, str]], total: int) -> str:
    shown = [f"  {path}: {reason}" for path, reason in rejected[:5]]
    if len(rejected) > len(shown):
        shown.append(f"  ... and {len(rejected) - len(shown)} more")
    return "\n".join(
        [
            f"{len(rejected)} of the run's {total} test images in {root} aren't what they were:",
            *shown,
            "If they have moved, name their new folder with --data FOLDER.",
        ]
    )


def _agreement(estimates: Mapping[str, Estimate], own: Mapping[str, Estimate]) -> list[str]:
    """Whether a second look gives the run's own numbers."""
    apart = {
        LABELS[name]: abs(estimates[name].value - own[name].value)
        for name in METRICS
        if name in own and not np.isclose(estimates[name].value, own[name].value, rtol=0, atol=SAME, equal_nan=True)
    }
    if not own:
        return []
    if not apart:
        return ["The same numbers as in the run's metrics.json."]
    worst = max(apart, key=lambda name: apart[name])
    return [
        f"{len(apart)} metrics differ from the run's metrics.json, most of all {worst}, by {apart[worst]:.2g}; "
        "another processor or precision rounds differently."
    ]


def _summary(shifts: Mapping[str, Shift]) -> list[str]:
    """What has become of accuracy and calibration, in words."""
    sentences = []
    for name, better in (("accuracy", "higher"), ("ece", "lower")):
        change = shifts.get(name)
        if change is None or np.isnan(change.value):
            continue
        clear = change.interval.low > 0 or change.interval.high < 0
        improved = (change.value > 0) == (better == "higher")
        verdict = ("better" if improved else "worse") if clear else "not clearly different"
        sentences.append(
            f"{LABELS[name].capitalize()} is {verdict} than on the run's own test images: {change.value:+.3f} "
            f"(95 % interval {change.interval.low:+.3f} to {change.interval.high:+.3f})."
        )
    return sentences


def _print(
    predictor: Predictor,
    images: Images,
    n_images: int,
    estimates: Mapping[str, Estimate],
    own: Mapping[str, Estimate],
    shifts: Mapping[str, Shift],
    notes: Sequence[str],
) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, markup=False, emoji=False)
    console.print(f"{predictor.run.path}: {n_images} images in {images.root}", soft_wrap=True)
    table: Any = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for heading in ("value", "95 % interval", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    if shifts:
        for heading in ("run's own test", "shift", "95 % interval"):
            table.add_column(heading, justify="right", no_wrap=True)
    for name, estimate in estimates.items():
        mark = " *" if estimate.caveat else ""
        row = [LABELS[name], _number(estimate.value), _bounds(estimate.low, estimate.high), f"{estimate.n}{mark}"]
        if shifts:
            change = shifts.get(name)
            row += (
                [_number(own[name].value), _number(change.value, "+"), _bounds(*change.interval, "+")]
                if change
                else ["-", "-", "-"]
            )
        table.add_row(*row)
    console.print(table)
    caveats = caveat_sentences({name: one.caveat for name, one in estimates.items()})
    for note in (*(f"* {sentence}" for sentence in caveats), *notes):
        console.print(note, soft_wrap=True)


def _number(value: float, sign: str = "") -> str:
    return "-" if np.isnan(value) else f"{value:{sign}.3f}"


def _bounds(low: float, high: float, sign: str = "") -> str:
    return "-" if np.isnan(low) else f"{low:{sign}.3f} to {high:{sign}.3f}"


def _write(
    out: Path,
    predictor: Predictor,
    images: Images,
    predictions: Predictions,
    estimates: Mapping[str, Estimate],
    own: Mapping[str, Estimate],
    shifts: Mapping[str, Shift],
    rejected: Sequence[tuple[str, str]],
) -> None:
    """Write ``predictions.csv`` and ``metrics.json``, laid out like a run's own; each appears whole."""
    out.mkdir(parents=True, exist_ok=True)
    write_csv(predictions, out / "predictions.csv", predictor.threshold)
    names = "\n".join(sorted(predictions.paths)).encode("utf-8", "surrogateescape")
    RunDir(out).write_json(
        "metrics.json",
        {
            **as_json(estimates, "test/"),
            **as_json(own, "run_test/"),
            **{
                f"shift/{name}": {"value": change.value, "low": change.interval.low, "high": change.interval.high}
                for name, change in shifts.items()
            },
            "provenance": {
                "run": str(predictor.run.path.absolute()),
                "data": str(images.root),
                "test_files": len(predictions),
                "test_files_sha256": hashlib.sha256(names).hexdigest(),
                "precision": predictor.precision,
                "notes": list(images.notes),
                "rejected": [{"path": path, "reason": reason} for path, reason in rejected],
            },
        },
    )
