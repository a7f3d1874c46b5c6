"""What became of the intervals and tests, counted, and the tables made of it."""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from raylight.config.rules.metric_names import LABELS, METRICS
from raylight.evaluation.caveats import SAFE

LEAST, MOST = 0.93, 0.975
"""The bar: between them is what an interval without a caveat must cover."""

COLUMNS = (
    *("part", "test_set", "metric", "truth", "sets", "covered", "error", "with_caveat", "covered_with_caveat"),
    *("bias", "width", "tested", "accused"),
)
"""Of ``results.csv``; ``error`` is the Monte-Carlo error of ``covered``."""


@dataclass
class Tally:
    """What became of one metric on one kind of test set.

    Attributes:
        truth: what the interval should hold.
        sets: test sets on which there was an interval, by whether it carried a caveat that it may be too narrow.
        wide: of those without, intervals that are said to be wide.
        held: of those, intervals that held the truth.
        accused: tests with p < 0.05.
        tested: tests.
        contradictions: tests whose interval says something else than its p-value.
        bias: sum of value minus truth.
        width: sum of widths.
    """

    truth: float
    sets: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    held: dict[bool, int] = field(default_factory=lambda: {False: 0, True: 0})
    wide: int = 0
    accused: int = 0
    tested: int = 0
    contradictions: int = 0
    bias: float = 0.0
    width: float = 0.0

    def add(self, value: float, low: float, high: float, caveat: object) -> None:
        """Count an interval."""
        if np.isnan(low):
            return
        marked = caveat is not None and caveat not in SAFE
        self.wide += caveat in SAFE
        self.sets[marked] += 1
        # Sums of float32 differ in the seventh digit, which matters where bound and truth are both 0 or 1.
        self.held[marked] += bool(low - 1e-6 <= self.truth <= high + 1e-6)
        self.bias += value - self.truth
        self.width += high - low

    def test(self, p_value: float, low: float, high: float) -> None:
        """Count a test beside its interval."""
        if np.isnan(p_value):
            return
        self.tested += 1
        self.accused += p_value < 0.05
        self.contradictions += (p_value < 0.05) != (low > 0 or high < 0)


def table(rows: Mapping[str, Mapping[str, Tally]], sets: int) -> Iterator[str]:
    """A Markdown table: kinds of test sets by metrics, the coverage of each."""
    yield "| test set | " + " | ".join(LABELS[name] for name in METRICS) + " |"
    yield "|---|" + "--:|" * len(METRICS)
    for name, tallies in rows.items():
        yield f"| {name} | " + " | ".join(_cell(tallies[metric], sets) for metric in METRICS) + " |"


def false_alarms(rows: Mapping[str, Mapping[str, Tally]]) -> Iterator[str]:
    """A Markdown table: how often p < 0.05, where the truth is no difference."""
    yield "| test set | " + " | ".join(LABELS[name] for name in METRICS) + " |"
    yield "|---|" + "--:|" * len(METRICS)
    for name, tallies in rows.items():
        cells = []
        for metric in METRICS:
            one = tallies[metric]
            equal = abs(one.truth) < 1e-9 and one.tested
            cells.append(f"{100 * one.accused / one.tested:.1f}" if equal else "–")
        if any(cell != "–" for cell in cells):
            yield f"| {name} | " + " | ".join(cells) + " |"


def _cell(tally: Tally, sets: int) -> str:
    """Coverage in per cent; in brackets where a caveat says that it may be lower, bold where it is too low without one."""
    plain, marked = tally.sets[False], tally.sets[True]
    if plain + marked < sets / 20:
        return "–"
    if marked > plain:
        return f"({100 * tally.held[True] / marked:.1f})"
    coverage = tally.held[False] / plain
    text = f"{100 * coverage:.1f}"
    return f"**{text}**" if out_of_bounds(tally) == "too narrow" else text


def out_of_bounds(tally: Tally) -> str | None:
    """Whether coverage without a caveat is outside the bar by more than two Monte-Carlo errors, and on which side."""
    n = tally.sets[False]
    if n < 100 or tally.sets[True] > n:
        return None
    coverage = tally.held[False] / n
    low_error, high_error = (np.sqrt(bound * (1 - bound) / n) for bound in (LEAST, MOST))
    if coverage < LEAST - 2 * low_error:
        return "too narrow"
    return "wider than need be" if coverage > MOST + 2 * high_error and tally.wide <= n / 2 else None


def report(parts: Mapping[str, Mapping[str, Mapping[str, Tally]]], sets: int) -> Iterator[str]:
    """The tables of all parts, in Markdown."""
    titles = {
        "single": "Intervals of one run",
        "paired": "Intervals of differences between two runs",
        "shifted": "Intervals of the shift between two sets of images, of which one has twice as many",
    }
    for part, title in titles.items():
        if part in parts:
            yield from (f"## {title}", "", *table(parts[part], sets), "")
    if "paired" in parts:
        yield from (
            "## False alarms: p < 0.05 where there is no difference, in per cent",
            "",
            *false_alarms(parts["paired"]),
            "",
        )
        wrong = sum(one.contradictions for row in parts["paired"].values() for one in row.values())
        tested = sum(one.tested for row in parts["paired"].values() for one in row.values())
        yield from (f"P-value and interval contradict each other in {wrong} of {tested:,} differences.", "")
    if "chosen" in parts:
        yield from (
            "## Rules chosen on validation",
            "",
            "| rule | interval covers | validation flatters by |",
            "|---|--:|--:|",
        )
        for name, row in parts["chosen"].items():
            (one,) = row.values()
            n = max(one.sets[False], 1)
            yield f"| {name} | {100 * one.held[False] / n:.1f} | {one.bias / n:+.3f} |"
        yield ""
    for side in ("too narrow", "wider than need be"):
        found = [
            f"{metric}: {100 * one.held[False] / one.sets[False]:.1f} ({name})"
            for part in titles
            for name, row in parts.get(part, {}).items()
            for metric, one in row.items()
            if out_of_bounds(one) == side
        ]
        yield from (f"## Without a caveat and {side}, by more than two Monte-Carlo errors: {len(found)}", "")
        yield from (*(f"- {line}" for line in found), "")


def write_csv(parts: Mapping[str, Mapping[str, Mapping[str, Tally]]], path: Path) -> None:
    """Write every figure behind the tables."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for part, rows in parts.items():
            for name, row in rows.items():
                for metric, one in row.items():
                    plain, marked = one.sets[False], one.sets[True]
                    coverage = one.held[False] / plain if plain else np.nan
                    error = np.sqrt(coverage * (1 - coverage) / plain) if plain else np.nan
                    n = max(plain + marked, 1)
                    numbers = (one.truth, plain, coverage, error, marked, one.held[True] / marked if marked else np.nan)
                    writer.writerow(
                        [part, name, metric, *(f"{x:.4g}" for x in numbers), f"{one.bias / n:.4f}", f"{one.width / n:.4f}",
                         one.tested, one.accused]
                    )  # fmt: skip
