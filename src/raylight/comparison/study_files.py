"""``raylight compare``: a comparison printed, and written as ``comparison.csv``, ``.md``, ``.html`` and ``disagreements.csv``.

Leaves out the numbers (``study``) and the sentences (``study_text``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylight.comparison.cells import SHOWN
from raylight.comparison.recipes import Recipe
from raylight.comparison.study import Study, study_of
from raylight.comparison.study_text import latex, markdown, pair_sentence, print_study, runs_word, sides
from raylight.comparison.subgroups import SubgroupDifference, subgroup_differences, subgroup_sentences
from raylight.config.rules.metric_names import LABELS, LOWER_IS_BETTER, METRICS
from raylight.errors import ConfigError
from raylight.report.images import SAMPLE, OriginalFiles, jpeg
from raylight.report.pages import Costed, draw_costs, render
from raylight.storage.atomic import write_atomically
from raylight.storage.tables import csv_text

PICTURES = 12
"""Maximum number of images shown per side of a pair."""

PICTURED_PAIRS = 10
"""Maximum number of pairs whose images are shown; ``disagreements.csv`` has all."""


@dataclass(frozen=True)
class Picture:
    """An image on which two recipes disagree.

    Attributes:
        path: relative to the data's root.
        label: its class.
        predicted: the class that the wrong recipe predicts.
        probability: of that class.
        uri: the picture as a data URI; None where the file can't be read any more.
    """

    path: str
    label: str
    predicted: str
    probability: float
    uri: str | None


def compare_runs(runs: Sequence[Path], out: Path | None) -> int:
    """Compare runs, print the tables, and write the pages.

    Args:
        runs: run folders, or folders of sweeps, of which the finished runs are taken.
        out: folder for ``comparison.csv``, ``.md``, ``.html``, ``disagreements.csv`` and the plots; None prints only.

    Returns:
        0.

    Raises:
        IncomparableError: the runs have no result, or differ in their classes or labels; says how.
        ConfigError: the folder can't be written.
    """
    study = study_of(runs)
    try:
        files = write_study(study, out) if out is not None else {}
    except OSError as error:
        raise ConfigError([f"--out {out}: it can't be written ({error.strerror}); name another folder"]) from error
    print_study(study)
    for sentence in subgroup_sentences(subgroup_differences(study)):
        print(sentence)  # noqa: T201 - the command's result
    for path in files.values():
        print(path)  # noqa: T201 - the command's result
    return 0


def write_study(study: Study, out: Path) -> dict[str, Path]:
    """Write a comparison into a folder, which is made if it doesn't exist.

    Returns:
        The files by name.
    """
    out.mkdir(parents=True, exist_ok=True)
    points = [
        Costed(one.name, accuracy.mean, accuracy.low, accuracy.high, one.seconds, one.parameters, accuracy.values)
        for one in study.recipes
        if (accuracy := one.metrics["accuracy"]).mean is not None
    ]
    first = study.recipes[0].facts
    files = OriginalFiles(first.index, first.preprocessing.decode_spec)
    shown = [
        (pair, *(_pictures(winner, loser, keys, files) for winner, loser, keys in sides(pair)))
        for pair in study.pairs[:PICTURED_PAIRS]
    ]
    differences = subgroup_differences(study)
    page = render(
        "comparison.html",
        study=study,
        metrics=METRICS,
        own=list(dict.fromkeys(name for one in study.recipes for name in one.metrics if name not in METRICS)),
        shown=SHOWN,
        labels=LABELS,
        lower_is_better=LOWER_IS_BETTER,
        charts=draw_costs(points, out),
        shown_pairs=shown,
        missing=sum(files.missing.values()),
        finite=math.isfinite,
        pair_sentence=pair_sentence,
        runs_word=runs_word(study),
        of_subgroups=list(subgroup_sentences(differences)),
        data=first.config.data.name,
        medical=first.config.data.medical,
    )
    contents = {
        "comparison.csv": csv_text(table_rows(study)),
        "disagreements.csv": csv_text(_image_rows(study)),
        "comparison.md": markdown(study),
        "comparison.tex": latex(study),
        "comparison.html": page,
    }
    if differences:
        contents["subgroups.csv"] = csv_text([_subgroup_row(one) for pair in differences for one in pair])
    return {
        name: write_atomically(out / name, text.encode("utf-8", "surrogateescape")) for name, text in contents.items()
    }


def _subgroup_row(one: SubgroupDifference) -> dict[str, Any]:
    difference = one.difference
    return {
        "first": one.pair.first.name,
        "second": one.pair.second.name,
        "column": one.column,
        "subgroup": one.name,
        "n": one.n,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "p": difference.p_value,
        "p_corrected": "" if math.isnan(one.corrected) else one.corrected,
    }


def _pictures(winner: Recipe, loser: Recipe, keys: Sequence[str], files: OriginalFiles) -> list[Picture]:
    """Images on which only one of two recipes is right."""
    names = loser.replicates[0].images.class_names
    shown = []
    for key in keys[:PICTURES]:
        vote, path = loser.votes[key], winner.paths[key]
        # The pictures come from the first recipe's index, whose paths may differ from this one's.
        pixels = files.pixels(_path_in(files, key, path), SAMPLE)
        uri = None if pixels is None else jpeg(pixels)
        shown.append(Picture(path, names[vote.label], names[vote.predicted], vote.probability, uri))
    return shown


def _path_in(files: OriginalFiles, key: str, path: str) -> str:
    content = key.split(" ")[0]
    hashes = files.index.column("sha256")
    paths = files.index.column("path")
    same = [str(paths[i]) for i in range(len(hashes)) if hashes[i] == content]
    return path if path in same or not same else same[0]


def table_rows(study: Study) -> list[dict[str, Any]]:
    """The rows of ``comparison.csv``: one per pair and metric, or per metric of a single recipe."""
    return _pair_rows(study) or _recipe_rows(study)


def _pair_rows(study: Study) -> list[dict[str, Any]]:
    """A row per pair and metric."""
    return [
        {
            "first": pair.first.name,
            "second": pair.second.name,
            "design": pair.design,
            "first_runs": len(pair.first.replicates),
            "second_runs": len(pair.second.replicates),
            "metric": name,
            "first_value": pair.first.metrics[name].mean,
            "second_value": pair.second.metrics[name].mean,
            "difference": difference.value,
            "low": difference.low,
            "high": difference.high,
            "p_value": difference.p_value,
            "caveat": difference.caveat or "",
            "p_corrected": pair.corrected[name],
            "both_right": pair.both,
            "only_first_right": len(pair.only_first),
            "only_second_right": len(pair.only_second),
            "neither_right": pair.neither,
        }
        for pair in study.pairs
        for name, difference in pair.differences.items()
    ]


def _recipe_rows(study: Study) -> list[dict[str, Any]]:
    """A row per metric of a single recipe."""
    return [
        {
            "recipe": recipe.name,
            "runs": len(recipe.replicates),
            "metric": name,
            "mean": metric.mean,
            "deviation": metric.deviation,
            "low": metric.low,
            "high": metric.high,
        }
        for recipe in study.recipes
        for name, metric in recipe.metrics.items()
    ]


def _image_rows(study: Study) -> list[dict[str, Any]]:
    """A row per image on which recipes disagree, with the share of each recipe's runs that are right."""
    first, *others = study.recipes
    names = first.replicates[0].images.class_names
    rows = []
    for key, vote in first.votes.items():
        votes = {first.name: vote, **{one.name: one.votes[key] for one in others if key in one.votes}}
        if len({one.right for one in votes.values()}) == 1:
            continue
        row: dict[str, Any] = {"path": first.paths[key], "sha256": key.split(" ")[0], "label": names[vote.label]}
        for recipe in study.recipes:
            one = votes.get(recipe.name)
            row[f"{recipe.name}: right"] = None if one is None else f"{one.right:g}"
            row[f"{recipe.name}: predicted"] = None if one is None else names[one.predicted]
            row[f"{recipe.name}: probability"] = None if one is None else one.probability
        rows.append(row)
    return rows
