"""A run's test result by subgroup: ``subgroups.csv``, and its summary."""

import csv
from collections.abc import Sequence

import numpy as np

from raylight.data.splits.subgroups import subgroups_of
from raylight.evaluation.clinical.subgroups import FEWEST, SHOWN, Subgroup, below_the_rest, subgroup_results
from raylight.evaluation.differences.paired import SIGNIFICANT
from raylight.evaluation.predictions import Predictions
from raylight.report.facts import RunFacts
from raylight.runs.run_dir import RunDir
from raylight.storage.tables import csv_text

FILE = "subgroups.csv"


def write_subgroups(facts: RunFacts) -> list[str]:
    """Evaluate the subgroups of ``report.subgroups`` and write ``subgroups.csv`` into the run's folder.

    Args:
        facts: of a run with ``index.parquet``, ``predictions.csv`` and the settings.

    Returns:
        A summary, a sentence each; empty if no subgroups are set.

    Raises:
        DataError: a column doesn't exist, or can't be divided into subgroups.
    """
    columns = facts.config.report.subgroups
    if not columns:
        return []
    place = {path: i for i, path in enumerate(facts.index.column("path"))}
    rows = facts.index.select(np.array([place[path] for path in facts.test.paths], np.int64))
    found = subgroup_results(facts.test, facts.threshold, subgroups_of(rows, columns))
    facts.run.write_text(FILE, subgroup_table(found))
    return sentences(found, facts.test)


def sentences(found: Sequence[Subgroup], test: Predictions) -> list[str]:
    """Name the subgroups below the rest, or else the furthest, and those too small to compare."""
    small, found_sentences = [one for one in found if not one.compared], []
    for low, metric in below_the_rest(found):
        gap, p_value = low.gap[metric], low.corrected[metric]
        beyond = p_value < SIGNIFICANT
        positives = low.positives or 0
        n = {"recall": positives, "specificity": low.n - positives}.get(metric, low.n)
        found_sentences.append(
            f"Of the subgroups, {low.column} {low.name} is {'' if beyond else 'furthest '}below the rest: {metric} "
            f"{low.estimates[metric].value:.3f} (n = {n}), {-gap.value:.3f} below the other images "
            f"({-gap.high:+.3f} to {-gap.low:+.3f}), {'more than chance would explain' if beyond else 'which may be chance'} "
            f"(p = {p_value:.3g}, corrected for the number of subgroups)."
        )
    if small:
        units = "images" if test.groups is None else "groups of images"
        names = ", ".join(f"{one.column} {one.name} ({one.n})" for one in small)
        found_sentences.append(
            f"Too small to be compared, with fewer than {FEWEST} {units} inside or outside: {names}."
        )
    return found_sentences


def read_subgroups(run: RunDir) -> list[dict[str, str]]:
    """Read the rows of ``subgroups.csv``; none without the file."""
    path = run / FILE
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def subgroup_table(found: Sequence[Subgroup]) -> str:
    """Format the content of ``subgroups.csv``."""
    gaps = ("accuracy", "recall", "specificity")
    names = [
        *("column", "subgroup", "n", "positives"),
        *(f"{metric}{part}" for metric in SHOWN for part in ("", "_low", "_high")),
        *(f"{metric}_gap{part}" for metric in gaps for part in ("", "_low", "_high", "_p", "_p_corrected")),
    ]
    rows = []
    for one in found:
        row: dict[str, object] = {"column": one.column, "subgroup": one.name, "n": one.n, "positives": one.positives}
        for metric, estimate in one.estimates.items():
            row |= {metric: estimate.value, f"{metric}_low": estimate.low, f"{metric}_high": estimate.high}
        for metric, gap in one.gap.items():
            row |= {f"{metric}_gap": gap.value, f"{metric}_gap_low": gap.low, f"{metric}_gap_high": gap.high}
            row |= {f"{metric}_gap_p": gap.p_value, f"{metric}_gap_p_corrected": one.corrected[metric]}
        rows.append(row)
    return csv_text(rows, names)
