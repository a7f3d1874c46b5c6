"""A comparison in words: sentences, the terminal's tables, Markdown.

Leaves out the page and the tables for other programs (``study_files``).
"""

import math
import sys

from raylight.comparison.cells import SHOWN, TextTable, cell, difference_words, metric_heads
from raylight.comparison.recipes import Recipe
from raylight.comparison.study import Pair, Study
from raylight.data.names import single_line
from raylight.report.pages import count, p_value, seconds

NAMED = 12
"""Maximum number of images listed per side of a single pair."""


def print_study(study: Study) -> None:
    """Print the recipes, the pairs, and the images on which a single pair disagrees."""
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 150, highlight=False)
    console.print(_recipes_table(study).terminal())
    if study.pairs:
        console.print(_pairs_table(study).terminal())
    for pair in study.pairs:
        console.print(pair_sentence(pair), markup=False)
    if len(study.pairs) == 1:
        (pair,) = study.pairs
        for winner, loser, keys in sides(pair):
            console.print(f"Only {winner.name} is right ({len(keys)}):", markup=False)
            names = loser.replicates[0].images.class_names
            for key in keys[:NAMED]:
                vote = loser.votes[key]
                console.print(
                    f"  {single_line(winner.paths[key])}: {names[vote.label]}, predicted as {names[vote.predicted]} "
                    f"({vote.probability:.2f}) by {loser.name}",
                    markup=False,
                )
    for note in study.notes:
        console.print(note, markup=False)


def sides(pair: Pair) -> tuple[tuple[Recipe, Recipe, tuple[str, ...]], ...]:
    """Both directions of a pair: the recipe that is right, the one that is wrong, and the contents."""
    return (pair.first, pair.second, pair.only_first), (pair.second, pair.first, pair.only_second)


def pair_sentence(pair: Pair) -> str:
    """Describe the difference of a pair's accuracy in a sentence."""
    difference, p = pair.differences["accuracy"], pair.corrected["accuracy"]
    better, worse = (pair.second, pair.first) if difference.value > 0 else (pair.first, pair.second)
    if difference.value == 0:
        what = f"{pair.first.name} and {pair.second.name} are right equally often"
    elif pair.design == "networks":
        more = f"{abs(difference.value) * pair.shared:.0f} more of {pair.shared} images"
        what = f"{better.name} is right on {more} than {worse.name}"
    else:
        points = f"{100 * abs(difference.value):.1f} percentage points"
        what = f"{better.name} is {points} more accurate than {worse.name}"
    if pair.design == "networks":
        why = f"they disagree on {len(pair.only_first) + len(pair.only_second)}"
    else:
        runs = f"{len(pair.first.replicates)} and {len(pair.second.replicates)} runs"
        bounds = sorted((abs(b) if b * difference.value > 0 else -abs(b)) for b in (difference.low, difference.high))
        why = (
            runs
            if math.isnan(difference.low)
            else f"{runs}; 95 % interval {100 * bounds[0]:.1f} to {100 * bounds[1]:.1f}"
        )
    if math.isnan(p):
        return f"{what} ({why}); nothing varies, so there is no p-value."
    chance = "more than chance would explain" if p < 0.05 else "which may be chance"
    corrected = ", corrected" if p != difference.p_value else ""
    return f"{what} ({why}), {chance} (p {_equals(p)}{corrected})."


def runs_word(study: Study) -> str:
    """What replicates are called: runs or cross-validations."""
    return "cross-validations" if study.joined else "runs"


def markdown(study: Study) -> str:
    """Format the comparison in Markdown."""
    lines = ["# Comparison", "", f"{study.images} test images.", "", *_recipes_table(study).markdown()]
    if study.pairs:
        lines += ["", *_pairs_table(study).markdown(), "", *(f"- {pair_sentence(pair)}" for pair in study.pairs)]
    return "\n".join([*lines, "", *(f"{note}\n" for note in study.notes)]).rstrip() + "\n"


def latex(study: Study) -> str:
    """Format the recipes and the pairs in LaTeX."""
    tables = [_recipes_table(study).latex(f"Results on {study.images} test images, with 95 % intervals.")]
    if study.pairs:
        caption = "Differences with 95 % intervals; p-values corrected by Holm's method."
        tables.append(_pairs_table(study).latex(caption))
    return "\n".join(tables)


def _recipes_table(study: Study) -> TextTable:
    recipes = len(study.recipes)
    return TextTable(
        f"{recipes} recipe{'s' * (recipes > 1)}, {len(study.replicates)} {runs_word(study)}, {study.images} images",
        ["recipe", runs_word(study), *metric_heads(), "parameters", "training"],
        [
            [
                *(one.name, str(len(one.replicates)), *(cell(one.metrics[name]) for name in SHOWN)),
                *(count(one.parameters), seconds(one.seconds)),
            ]
            for one in study.recipes
        ],
    )


def _pairs_table(study: Study) -> TextTable:
    head = ["second minus first", "both right", "only first", "only second", "neither", "difference of accuracy"]
    rows = []
    for pair in study.pairs:
        accuracy = pair.differences["accuracy"]
        counts = (pair.both, len(pair.only_first), len(pair.only_second), pair.neither)
        rows.append(
            [
                f"{pair.first.name} → {pair.second.name}",
                *(str(number) if pair.shared else "–" for number in counts),
                *(difference_words(accuracy), p_value(accuracy.p_value), p_value(pair.corrected["accuracy"])),
            ]
        )
    return TextTable("Pairs: the second minus the first", [*head, "p", "p corrected"], rows)


def _equals(p: float) -> str:
    text = p_value(p)
    return text if text.startswith("<") else f"= {text}"
