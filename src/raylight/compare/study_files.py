"""A comparison as people read it: on the terminal, ``comparison.csv``, ``.md``, ``.html`` and ``disagreements.csv``.

Leaves out what the numbers are (``comparison``, ``paired``).
"""

import csv
import io
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raylight.compare.study import Entrant, Pair, Study, right
from raylight.config.metric_names import LABELS, LOWER_IS_BETTER, METRICS
from raylight.data.names import on_one_line
from raylight.evaluation.paired import Difference
from raylight.report.figures import interval_text
from raylight.report.images import SAMPLE, OriginalFiles, jpeg
from raylight.report.pages import Costed, count, draw_costs, p_value, render, seconds
from raylight.runs.run_dir import write_atomically

if TYPE_CHECKING:
    from rich.table import Table

SHOWN = ("accuracy", "balanced_accuracy", "f1", "auroc", "ece")
"""Metrics on the terminal; the files have all."""

PICTURES = 12
"""Images shown a side of a pair."""

PICTURED_PAIRS = 10
"""Pairs whose images are shown; ``disagreements.csv`` has all."""


@dataclass(frozen=True)
class Picture:
    """An image on which two models disagree.

    Attributes:
        path: relative to the data's root.
        label: its class.
        given: the class that the model that is wrong gave.
        probability: that it gave to that class.
        uri: the picture; None where the file can't be read any more.
    """

    path: str
    label: str
    given: str
    probability: float
    uri: str | None


def write_study(study: Study, out: Path) -> dict[str, Path]:
    """Write a comparison into a folder, which is made when it isn't there.

    Returns:
        The files by kind: csv, md, html, disagreements.
    """
    out.mkdir(parents=True, exist_ok=True)
    points = [
        Costed(one.name, accuracy.value, accuracy.low, accuracy.high, one.seconds, one.parameters)
        for one in study.entrants
        if not math.isnan((accuracy := one.estimates["accuracy"]).value)
    ]
    first = study.entrants[0].facts
    files = OriginalFiles(first.index, first.preprocessing.resize)
    shown = [(pair, *_pictures(pair, files)) for pair in study.pairs[:PICTURED_PAIRS]]
    page = render(
        "comparison.html",
        study=study,
        metrics=METRICS,
        shown=SHOWN,
        labels=LABELS,
        lower_is_better=LOWER_IS_BETTER,
        charts=draw_costs(points, out),
        shown_pairs=shown,
        missing=sum(files.missing.values()),
        finite=math.isfinite,
        difference=difference_words,
        verdict=verdict,
        data=first.config.data.name,
        medical=first.config.data.medical,
    )
    contents = {
        "comparison.csv": _table(_pair_rows(study)),
        "disagreements.csv": _table(_image_rows(study)),
        "comparison.md": markdown(study),
        "comparison.html": page,
    }
    return {
        name: write_atomically(out / name, text.encode("utf-8", "surrogateescape")) for name, text in contents.items()
    }


def print_study(study: Study) -> None:
    """Print the models, the pairs, and the images on which a single pair disagrees."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(_entrants_table(study))
    if study.pairs:
        console.print(_pairs_table(study))
    for pair in study.pairs:
        console.print(verdict(pair), markup=False)
    if len(study.pairs) == 1:
        (pair,) = study.pairs
        for winner, loser, keys in (
            (pair.first, pair.second, pair.only_first),
            (pair.second, pair.first, pair.only_second),
        ):
            console.print(f"Only {winner.name} gets right ({len(keys)}):", markup=False)
            for one in _shown(winner, loser, keys[:PICTURES], None):
                console.print(
                    f"  {on_one_line(one.path)}: {one.label}, called {one.given} ({one.probability:.2f}) by {loser.name}",
                    markup=False,
                )
    for note in study.notes:
        console.print(note, markup=False)


def verdict(pair: Pair) -> str:
    """What a pair's accuracy says, in a sentence."""
    difference, p = pair.comparison.differences["accuracy"], pair.corrected["accuracy"]
    better = pair.second if difference.value > 0 else pair.first
    worse = pair.first if better is pair.second else pair.second
    n = len(pair.first.images)
    disagreements = pair.comparison.only_first + pair.comparison.only_second
    if difference.value == 0:
        what = f"{pair.first.name} and {pair.second.name} are right equally often"
    else:
        what = f"{better.name} is right on {abs(difference.value) * n:.0f} more of {n} images than {worse.name}"
    chance = "more than chance would explain" if p < 0.05 else "which may be chance"
    return f"{what} (they disagree on {disagreements}), {chance} (p {_equals(p)}, corrected)."


def difference_words(difference: Difference) -> str:
    """A difference with its interval, signed."""
    if math.isnan(difference.value):
        return "–"
    if math.isnan(difference.low):
        return f"{difference.value:+.3f}"
    return f"{difference.value:+.3f} ({difference.low:+.3f} to {difference.high:+.3f})"


def markdown(study: Study) -> str:
    """The comparison in Markdown."""
    head = ["model", *(LABELS[name] for name in SHOWN), "parameters", "training"]
    lines = ["# Comparison", "", f"{len(study.entrants[0].images)} test images.", "", *_head(head)]
    for one in study.entrants:
        cells = [interval_text(one.estimates[name]) for name in SHOWN]
        lines.append(_line([one.name, *cells, count(one.parameters), seconds(one.seconds)]))
    if not study.pairs:
        return "\n".join([*lines, "", *(f"{note}\n" for note in study.notes)]).rstrip() + "\n"
    head = [
        "pair (second minus first)",
        "only first right",
        "only second right",
        "difference of accuracy",
        "p",
        "p corrected",
    ]
    lines += ["", *_head(head)]
    for pair in study.pairs:
        c = pair.comparison
        lines.append(
            _line(
                [
                    f"{pair.first.name} → {pair.second.name}",
                    str(c.only_first),
                    str(c.only_second),
                    difference_words(c.differences["accuracy"]),
                    p_value(c.p_value),
                    p_value(pair.corrected["accuracy"]),
                ]
            )
        )
    lines += ["", *(f"- {verdict(pair)}" for pair in study.pairs), "", *(f"{note}\n" for note in study.notes)]
    return "\n".join(lines).rstrip() + "\n"


def _head(cells: Sequence[str]) -> list[str]:
    return [_line(cells), f"|{' --- |' * len(cells)}"]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _entrants_table(study: Study) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    models, images = len(study.entrants), len(study.entrants[0].images)
    table = Table(title=f"{models} model{'s' * (models > 1)} on {images} images", title_justify="left")
    table.add_column("model", overflow="fold")
    for name in (*(LABELS[name] + " ↓" * (name in LOWER_IS_BETTER) for name in SHOWN), "parameters", "training"):
        table.add_column(name, justify="right")
    for one in study.entrants:
        cells = [interval_text(one.estimates[name]) for name in SHOWN]
        table.add_row(escape(one.name), *cells, count(one.parameters), seconds(one.seconds))
    return table


def _pairs_table(study: Study) -> "Table":
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Pairs: the second minus the first", title_justify="left")
    for name in ("first", "second"):
        table.add_column(name, overflow="fold")
    for name in ("both right", "only first", "only second", "neither", "difference of accuracy", "p", "p corrected"):
        table.add_column(name, justify="right")
    for pair in study.pairs:
        c = pair.comparison
        counts = (c.both, c.only_first, c.only_second, c.neither)
        table.add_row(
            escape(pair.first.name),
            escape(pair.second.name),
            *map(str, counts),
            difference_words(c.differences["accuracy"]),
            p_value(c.p_value),
            p_value(pair.corrected["accuracy"]),
        )
    return table


def _pictures(pair: Pair, files: OriginalFiles) -> tuple[list[Picture], list[Picture]]:
    return (
        _shown(pair.first, pair.second, pair.only_first[:PICTURES], files),
        _shown(pair.second, pair.first, pair.only_second[:PICTURES], files),
    )


def _shown(winner: Entrant, loser: Entrant, keys: Sequence[str], files: OriginalFiles | None) -> list[Picture]:
    """Images that one model gets right and the other wrong."""
    where = {key: i for i, key in enumerate(loser.images.paths)}
    given = loser.images.predicted(loser.threshold)
    names = loser.images.class_names
    shown = []
    for key in keys:
        i, path = where[key], winner.paths[key]
        # The pictures are those of the first model's index, whose paths may be others than this one's.
        pixels = files.pixels(_path_in(files, key, path), SAMPLE) if files else None
        shown.append(
            Picture(
                path=path,
                label=names[loser.images.labels[i]],
                given=names[given[i]],
                probability=float(loser.images.probabilities[i, given[i]]),
                uri=None if pixels is None else jpeg(pixels),
            )
        )
    return shown


def _path_in(files: OriginalFiles, key: str, path: str) -> str:
    content = key.split(" ")[0]
    hashes = files.index.column("sha256")
    paths = files.index.column("path")
    same = [str(paths[i]) for i in range(len(hashes)) if hashes[i] == content]
    return path if path in same or not same else same[0]


def _pair_rows(study: Study) -> list[dict[str, Any]]:
    """A row a pair and metric."""
    return [
        {
            "first": pair.first.name,
            "second": pair.second.name,
            "metric": name,
            "first_value": pair.first.estimates[name].value,
            "second_value": pair.second.estimates[name].value,
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p_value": difference.p_value,
            "p_corrected": pair.corrected[name],
            "both_right": pair.comparison.both,
            "only_first_right": pair.comparison.only_first,
            "only_second_right": pair.comparison.only_second,
            "neither_right": pair.comparison.neither,
        }
        for pair in study.pairs
        for name, difference in pair.comparison.differences.items()
    ]


def _image_rows(study: Study) -> list[dict[str, Any]]:
    """A row an image on which not all models are right or all wrong."""
    first = study.entrants[0]
    verdicts = {one.name: right(one) for one in study.entrants}
    given = {one.name: one.images.predicted(one.threshold) for one in study.entrants}
    names = first.images.class_names
    rows = []
    for i, key in enumerate(first.images.paths):
        row: dict[str, Any] = {"path": first.paths[key], "sha256": key.split(" ")[0]}
        row["label"] = names[first.images.labels[i]]
        for one in study.entrants:
            row[f"{one.name}: right"] = int(verdicts[one.name][i])
            row[f"{one.name}: predicted"] = names[given[one.name][i]]
            row[f"{one.name}: probability"] = float(one.images.probabilities[i, given[one.name][i]])
        if len({bool(verdicts[one.name][i]) for one in study.entrants}) > 1:
            rows.append(row)
    return rows


def _table(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    if rows:
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            writer.writerow({k: "" if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()})
    return text.getvalue()


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"
