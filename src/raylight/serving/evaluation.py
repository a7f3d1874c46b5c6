"""The result of evaluating a run, as a value, on the terminal and in files."""

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from raylight.config.rules.metric_names import LABELS
from raylight.evaluation.caveats import caveat_sentences
from raylight.evaluation.clinical.prediction_powered import PoweredAccuracy
from raylight.evaluation.clinical.subgroups import Subgroup
from raylight.evaluation.intervals import Interval
from raylight.evaluation.metrics import Estimate, as_json
from raylight.evaluation.predictions import Predictions, write_csv
from raylight.report.subgroups import FILE as SUBGROUPS_FILE
from raylight.report.subgroups import subgroup_table
from raylight.runs.run_dir import RunDir
from raylight.serving.labelled_images import LabelledImages
from raylight.serving.predictor import Predictor


@dataclass(frozen=True)
class Shift:
    """How much a metric differs from the run's own test.

    Attributes:
        value: new minus own.
        interval: 95 %, of two independent samples.
    """

    value: float
    interval: Interval


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of a run on some images.

    Attributes:
        predictor: of the run.
        images: to evaluate on.
        predictions: of the usable ones.
        rejected: path and reason of the others.
        estimates: each metric of ``predictions``.
        own: each metric of the run's own test.
        shifts: from ``own`` to ``estimates``; empty where the images are the run's own.
        notes: on the methods and limits of the numbers.
        powered: the accuracy estimated with unlabelled images, if there are any.
        subgroups: of ``report.subgroups``, as far as the images' table has their columns.
    """

    predictor: Predictor
    images: LabelledImages
    predictions: Predictions
    rejected: Sequence[tuple[str, str]]
    estimates: Mapping[str, Estimate]
    own: Mapping[str, Estimate]
    shifts: Mapping[str, Shift]
    notes: tuple[str, ...]
    powered: PoweredAccuracy | None = None
    subgroups: tuple[Subgroup, ...] = ()


def print_evaluation(outcome: Evaluation) -> None:
    """Print each metric with its interval; beside another folder's, the run's own and the shift."""
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 110, highlight=False, markup=False, emoji=False)
    console.print(
        f"{outcome.predictor.run.path}: {len(outcome.predictions)} images in {outcome.images.root}", soft_wrap=True
    )
    table: Any = Table(box=None, pad_edge=False)
    table.add_column("metric")
    for heading in ("value", "95 % interval", "n"):
        table.add_column(heading, justify="right", no_wrap=True)
    if outcome.shifts:
        for heading in ("run's own test", "shift", "95 % interval"):
            table.add_column(heading, justify="right", no_wrap=True)
    for name, estimate in outcome.estimates.items():
        mark = " *" if estimate.caveat else ""
        row = [LABELS[name], _number(estimate.value), _bounds(estimate.low, estimate.high), f"{estimate.n}{mark}"]
        if outcome.shifts:
            change = outcome.shifts.get(name)
            row += (
                [_number(outcome.own[name].value), _number(change.value, "+"), _bounds(*change.interval, "+")]
                if change
                else ["-", "-", "-"]
            )
        table.add_row(*row)
    console.print(table)
    caveats = caveat_sentences({name: one.caveat for name, one in outcome.estimates.items()})
    for note in (*(f"* {sentence}" for sentence in caveats), *outcome.notes):
        console.print(note, soft_wrap=True)


def _number(value: float, sign: str = "") -> str:
    return "-" if np.isnan(value) else f"{value:{sign}.3f}"


def _bounds(low: float, high: float, sign: str = "") -> str:
    return "-" if np.isnan(low) else f"{low:{sign}.3f} to {high:{sign}.3f}"


def write_evaluation(outcome: Evaluation, out: Path) -> None:
    """Write ``predictions.csv`` and ``metrics.json``, in the format of a run's own, atomically."""
    out.mkdir(parents=True, exist_ok=True)
    write_csv(outcome.predictions, out / "predictions.csv", outcome.predictor.threshold)
    if outcome.subgroups:
        RunDir(out).write_text(SUBGROUPS_FILE, subgroup_table(outcome.subgroups))
    names = "\n".join(sorted(outcome.predictions.paths)).encode("utf-8", "surrogateescape")
    RunDir(out).write_json(
        "metrics.json",
        {
            **as_json(outcome.estimates, "test/"),
            **as_json(outcome.own, "run_test/"),
            **{
                f"shift/{name}": {"value": change.value, "low": change.interval.low, "high": change.interval.high}
                for name, change in outcome.shifts.items()
            },
            **({"prediction_powered": asdict(outcome.powered)} if outcome.powered else {}),
            "provenance": {
                "run": str(outcome.predictor.run.path.absolute()),
                "data": str(outcome.images.root),
                "test_files": len(outcome.predictions),
                "test_files_sha256": hashlib.sha256(names).hexdigest(),
                "precision": str(outcome.predictor.precision),
                "notes": list(outcome.images.notes),
                "rejected": [{"path": path, "reason": reason} for path, reason in outcome.rejected],
            },
        },
    )
