"""Two runs compared in each subgroup of their test images, where the first run's settings define subgroups.

Leaves out which subgroup an image belongs to (``data.splits.subgroups``), and recipes of several runs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from raylight.comparison.study import Pair, Study
from raylight.data.splits.subgroups import subgroups_of
from raylight.evaluation.bootstrap import n_units
from raylight.evaluation.clinical.subgroups import FEWEST
from raylight.evaluation.differences.paired import SIGNIFICANT, Difference, holm, proportion_difference
from raylight.evaluation.predictions import group_numbers


@dataclass(frozen=True)
class SubgroupDifference:
    """How much more accurate the second run is in one subgroup.

    Attributes:
        pair: the runs.
        column: that defines the subgroup.
        name: value, or range of values, of the column.
        n: images that both runs were tested on.
        difference: of accuracy, second minus first.
        corrected: its p-value, corrected for the number of subgroups of the pair (Holm); NaN where the subgroup is too small.
    """

    pair: Pair
    column: str
    name: str
    n: int
    difference: Difference
    corrected: float


def subgroup_differences(study: Study) -> list[list[SubgroupDifference]]:
    """Compare each pair of single runs in each subgroup of ``report.subgroups`` of the pair's first run; a list per pair.

    Raises:
        DataError: the index has no such column any more.
    """
    return [found for pair in study.pairs if pair.design == "networks" and (found := _of_pair(pair))]


def _of_pair(pair: Pair) -> list[SubgroupDifference]:
    facts, votes = pair.first.facts, (pair.first.votes, pair.second.votes)
    if not facts.config.report.subgroups:
        return []
    keys = [key for key in votes[0] if key in votes[1]]
    right = [np.array([of[key].most_are_right for key in keys], dtype=bool) for of in votes]
    place = {path: i for i, path in enumerate(facts.index.column("path"))}
    rows = facts.index.select(np.array([place[pair.first.paths[key]] for key in keys], np.int64))
    groups = group_numbers(rows.column("group"))
    found = []
    for column, names in subgroups_of(rows, facts.config.report.subgroups).items():
        for name in sorted({name for name in names if name is not None}):
            inside = np.array([one == name for one in names], dtype=bool)
            units = None if groups is None else groups[inside]
            difference = proportion_difference(right[0][inside], right[1][inside], units)
            p_value = difference.p_value if n_units(units, int(inside.sum())) >= FEWEST else np.nan
            found.append(SubgroupDifference(pair, column, name, int(inside.sum()), difference, p_value))
    return [replace(one, corrected=p) for one, p in zip(found, holm([one.corrected for one in found]), strict=True)]


def subgroup_sentences(pairs: Sequence[Sequence[SubgroupDifference]]) -> Iterator[str]:
    """Name the subgroups of each pair in which the second run is behind beyond chance, or else the furthest behind."""
    for differences in pairs:
        behind = [one for one in differences if not np.isnan(one.corrected) and one.difference.value < 0]
        behind.sort(key=lambda one: one.difference.value)
        for one in [one for one in behind if one.corrected < SIGNIFICANT] or behind[:1]:
            chance = "more than chance would explain" if one.corrected < SIGNIFICANT else "which may be chance"
            yield (
                f"In the subgroup {one.column} {one.name} ({one.n} images), {one.pair.second.name} is "
                f"{-100 * one.difference.value:.1f} percentage points less accurate than {one.pair.first.name}, {chance} "
                f"(p = {one.corrected:.3g}, corrected for the number of subgroups)."
            )
