"""Which recipe is better, and is that more than the chance of seeds and test images?

Covers checking that recipes can be compared, the comparison that their runs allow, and notes on its limits. Leaves out reading
runs (``replicates``, ``recipes``), the statistics (``evaluation.differences``) and the files (``study_files``).
"""

import itertools
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from raylight.comparison.recipes import Recipe, listed, recipes_of
from raylight.comparison.replicates import IncomparableError, Replicate, held_folds, runs_at
from raylight.config.rules.decision_rule import parse_rule
from raylight.errors import ConfigError
from raylight.evaluation.caveats import caveat_sentences
from raylight.evaluation.definitions.own import OwnMetrics
from raylight.evaluation.differences.own import own_differences, own_measure
from raylight.evaluation.differences.paired import Difference, compare, holm
from raylight.evaluation.differences.random_effects import BUILT_IN, compare_by_split, compare_recipes
from raylight.evaluation.intervals import UNDEFINED

log = logging.getLogger("raylight")

EXAMPLES = 3
"""Images named when labels differ."""

Design = Literal["networks", "recipes", "splits", "unpaired"]
"""The design of a comparison: two single networks on the same images; runs of two recipes on the same images; runs paired by
split; runs on different images."""


@dataclass(frozen=True)
class Pair:
    """Two recipes compared, the second minus the first.

    Attributes:
        first: one recipe.
        second: the other.
        design: of the comparison.
        differences: by metric, not corrected.
        corrected: p-value of each metric's difference, corrected for the number of pairs.
        both: images on which most runs of both are right, of those that both were tested on.
        neither: images on which most runs of neither are right.
        only_first: contents on which most runs of only the first are right; the most confident errors of the second come first.
        only_second: likewise for the second.
        left_out: runs without a partner on the same split, where runs are paired by split.
    """

    first: Recipe
    second: Recipe
    design: Design
    differences: Mapping[str, Difference]
    corrected: Mapping[str, float]
    both: int
    neither: int
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    left_out: int

    @property
    def shared(self) -> int:
        """Images that both were tested on."""
        return self.both + self.neither + len(self.only_first) + len(self.only_second)


@dataclass(frozen=True)
class Study:
    """The result of a comparison.

    Attributes:
        recipes: that were compared.
        pairs: all pairs of them.
        notes: on the methods and limits of the numbers.
    """

    recipes: tuple[Recipe, ...]
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]

    @property
    def replicates(self) -> list[Replicate]:
        """The runs of all recipes."""
        return [one for recipe in self.recipes for one in recipe.replicates]

    @property
    def images(self) -> int:
        """Number of test images of a run."""
        return len(self.recipes[0].replicates[0].images)

    @property
    def joined(self) -> bool:
        """Whether folds of cross-validations were joined."""
        return len(self.recipes[0].replicates[0].runs) > 1


def study_of(paths: Sequence[Path]) -> Study:
    """Read runs and compare all pairs of their recipes.

    Args:
        paths: run folders, or folders of sweeps, of which the finished runs are taken.

    Raises:
        IncomparableError: the runs have no result, or differ in their classes or labels; says how.
    """
    runs = runs_at(paths)
    if len(runs) < 2:
        raise IncomparableError(f"A comparison needs two runs with a result; {len(runs)} found.")
    recipes = recipes_of(runs)
    _check_labels([one for recipe in recipes for one in recipe.replicates], [recipe.name for recipe in recipes])
    study = Study(tuple(recipes), tuple(_pairs(recipes)), ())
    return Study(study.recipes, study.pairs, tuple(_notes(study)))


def _pairs(recipes: Sequence[Recipe]) -> list[Pair]:
    couples = list(itertools.combinations(recipes, 2))
    found = [_compared(first, second) for first, second in couples]
    names = dict.fromkeys(name for _, differences, _ in found for name in differences)
    untested = Difference(math.nan, *UNDEFINED, math.nan)
    corrected = {name: holm([differences.get(name, untested).p_value for _, differences, _ in found]) for name in names}
    return [
        _pair(first, second, design, differences, {name: corrected[name][i] for name in differences}, left_out)
        for i, ((first, second), (design, differences, left_out)) in enumerate(zip(couples, found, strict=True))
    ]


def _compared(first: Recipe, second: Recipe) -> tuple[Design, Mapping[str, Difference], int]:
    """The design that the runs of two recipes allow, the differences, and how many runs were left out."""
    one, other = first.run_predictions, second.run_predictions
    own = _own_metrics(first, second)
    measures = [BUILT_IN, *([own_measure(own)] if own else [])]
    tested = [[frozenset(run.predictions.paths) for run in runs] for runs in (one, other)]
    together = len({images for some in tested for images in some}) == 1
    if together and len(one) == len(other) == 1:
        thresholds = one[0].threshold, other[0].threshold
        differences = dict(compare(one[0].predictions, other[0].predictions, thresholds).differences)
        differences |= own_differences(one[0].predictions, other[0].predictions, own) if own else {}
        return "networks", differences, 0
    partners, free = [], list(range(len(other)))
    for i, images in enumerate(tested[0]):
        if (j := next((j for j in free if tested[1][j] == images), None)) is not None:
            free.remove(j)
            partners.append((i, j))
    if together or len(partners) < 2:
        differences = {}
        for measure in measures:
            differences |= compare_recipes(one, other, measure)
        return "recipes" if together else "unpaired", differences, 0
    share = sum(len(one[i].predictions) / max(first.replicates[i].facts.total("train"), 1) for i, _ in partners)
    these, those = [one[i] for i, _ in partners], [other[j] for _, j in partners]
    differences = {}
    for measure in measures:
        differences |= compare_by_split(these, those, share / len(partners), measure)
    return "splits", differences, len(one) + len(other) - 2 * len(partners)


def _own_metrics(first: Recipe, second: Recipe) -> OwnMetrics | None:
    """A user's metrics that both configs define alike; ``None``, with a message, where their code isn't trusted."""
    one, other = (recipe.replicates[0].facts.config.metrics for recipe in (first, second))
    nodes = {name: node for name, node in one.items() if other.get(name) == node}
    if not nodes:
        return None
    images = first.replicates[0].images
    try:
        return OwnMetrics(nodes, len(images.class_names), images.positive)
    except ConfigError as error:
        log.info("No differences in %s: %s", ", ".join(nodes), "; ".join(error.problems))
        return None


def _pair(
    first: Recipe,
    second: Recipe,
    design: Design,
    differences: Mapping[str, Difference],
    corrected: Mapping[str, float],
    left_out: int,
) -> Pair:
    shared = [key for key in first.votes if key in second.votes]
    right = {key: (first.votes[key].most_are_right, second.votes[key].most_are_right) for key in shared}

    def only(winner: int, loser: Recipe) -> tuple[str, ...]:
        keys = [key for key, both in right.items() if both[winner] and not both[1 - winner]]
        return tuple(sorted(keys, key=lambda key: -loser.votes[key].probability))

    return Pair(
        first=first,
        second=second,
        design=design,
        differences=differences,
        corrected=corrected,
        both=sum(all(one) for one in right.values()),
        neither=sum(not any(one) for one in right.values()),
        only_first=only(0, second),
        only_second=only(1, first),
        left_out=left_out,
    )


def _check_labels(replicates: Sequence[Replicate], names: Sequence[str]) -> None:
    """Refuse runs with different classes, or with different labels for the same image."""
    first = replicates[0]
    labels: dict[str, tuple[int, Replicate]] = {}
    for other in replicates:
        if first.images.class_names != other.images.class_names:
            raise IncomparableError(
                f"The runs have different classes: {first.facts.run.path} {', '.join(first.images.class_names)}; "
                f"{other.facts.run.path} {', '.join(other.images.class_names)}."
            )
        if first.images.positive_class != other.images.positive_class:
            raise IncomparableError(
                f"The positive class differs: {first.facts.run.path} has {first.images.positive_class}, "
                f"{other.facts.run.path} {other.images.positive_class}. Train one of them again with the other's "
                "data.positive_class."
            )
        relabelled = []
        for key, label in zip(other.images.paths, other.images.labels.tolist(), strict=True):
            known = labels.setdefault(key, (label, other))
            if known[0] != label:
                relabelled.append((other.paths[key], known[1]))
        if relabelled:
            examples = listed(sorted(path for path, _ in relabelled)[:EXAMPLES])
            raise IncomparableError(
                f"The runs were tested on different labels: {len(relabelled)} of {len(other.images)} images have another "
                f"class in {other.facts.run.path} than in {relabelled[0][1].facts.run.path} ({examples})."
            )


def _notes(study: Study) -> Iterator[str]:
    """Notes on the methods and limits of the numbers."""
    designs = {pair.design for pair in study.pairs}
    what = "cross-validation" if study.joined else "run"
    if len(study.recipes) == 1 and len(study.replicates) > 1:
        yield (
            f"All {len(study.replicates)} {what}s are of one recipe and differ only by seed, which is no reason to prefer one. "
            "The table shows their mean, their standard deviation and the interval of the mean."
        )
    if "networks" in designs:
        yield (
            f"One {what} each: two trained networks were compared, not two recipes. Another seed gives another network, and "
            "may reverse the result; to compare recipes, train each with several seeds (-m seed=1,2,3)."
        )
        yield (
            "The p-value of accuracy is McNemar's, from the images on which two models disagree, and its interval Tango's; "
            "those of other metrics come from swapping the two models' outputs at random."
        )
    if designs & {"recipes", "unpaired"}:
        yield (
            "Differences between recipes allow for seeds and test images together (Obuchowski and Rockette's analysis with "
            "Hillis's degrees of freedom: runs are random within a recipe, images are shared). A recipe with a single "
            "run is assumed to vary between seeds as the other one does."
        )
    if "unpaired" in designs:
        pair = next(pair for pair in study.pairs if pair.design == "unpaired")
        yield (
            f"Not all runs were tested on the same images ({pair.first.name} and {pair.second.name} have {pair.shared} in "
            "common), so they aren't paired and the interval is wider. "
            + (_same_split(study) or "Train them on the same files with the same data.* settings to pair them.")
        )
    if "splits" in designs:
        left_out = sum(pair.left_out for pair in study.pairs)
        yield (
            "Runs of one seed share their test images and are compared in pairs; since all splits are of one set of images, by "
            "the corrected resampled t-test (Nadeau and Bengio)."
            + (f" {left_out} runs without a partner aren't in the differences." if left_out else "")
            + " With one split for all seeds (data.split_seed=1, the default) intervals are narrower."
        )
    if len(study.pairs) > 1:
        yield "P-values are corrected for the number of pairs (Holm), separately for each metric."
    yield from _fold_notes(study)
    known = {None, *(one.caveat for replicate in study.replicates for one in replicate.estimates.values())}
    yield from caveat_sentences(
        {name: one.caveat for replicate in study.replicates for name, one in replicate.estimates.items() if one.caveat}
    )
    yield from caveat_sentences(
        {name: one.caveat for pair in study.pairs for name, one in pair.differences.items() if one.caveat not in known}
    )
    yield from dict.fromkeys(
        line for one in study.replicates for run in one.runs for line in run.metrics.get("split_warnings", [])
    )
    grouped = study.replicates[0].images.groups is not None
    yield "Intervals are 95 %" + (", and count groups instead of images." if grouped else ".")


def _same_split(study: Study) -> str | None:
    seeds = sorted({one.facts.config.split_seed for one in study.replicates})
    if len(seeds) == 1:
        return None
    return (
        f"They were split by different seeds ({listed(seeds)}): train them with one data.split_seed, for example "
        f"data.split_seed={seeds[0]}, which leaves seed free to differ."
    )


def _fold_notes(study: Study) -> Iterator[str]:
    if not study.joined:
        return
    if any(one.chosen_on_test for one in study.replicates):
        yield (
            "The folds were trained before the last epoch's predictions were kept: each network's checkpoint and calibration "
            "were chosen on the images that it is evaluated on, which is optimistic. Train them again to avoid that."
        )
    else:
        yield (
            "The folds of each cross-validation are joined: each image is predicted by the network that wasn't trained on "
            "it, after its last epoch. Nothing was chosen on the images that evaluate it: the temperature comes from the other "
            "folds. The interval assumes independent images; networks of different folds share training images, so "
            "it is somewhat too narrow."
        )
    first = study.recipes[0].replicates[0]
    folds, held = int(first.facts.config.data.folds or 0), held_folds(first.runs)
    if missing := [fold for fold in range(folds) if fold not in held]:
        yield f"Fold {listed(missing)} of {folds} is missing: the result is on the images of the others."
    if any(parse_rule(one.facts.config.decision.threshold).kind != "fixed" for one in study.replicates):
        yield "Each fold chose its own decision threshold on its held-out images; here 0.5 is used for all."
    if any(one.facts.config.trainer.patience is not None for one in study.replicates):
        yield "trainer.patience stopped training by the held-out images; the resulting bias is small, but not measured."
