"""Recipes: configurations without their seed, each with the runs that repeat it.

Covers which runs are of one recipe, how recipes differ, and what a recipe's runs predict for each image. Leaves out reading
runs (``replicates``) and whether one recipe is better than another (``study``).
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from raylight.comparison.replicates import IncomparableError, Replicate, held_folds, joined_folds, single_run
from raylight.config.rules.metric_names import METRICS, reported
from raylight.evaluation.differences.random_effects import RunPredictions, Spread, spread
from raylight.evaluation.metrics import as_json
from raylight.report.facts import RunFacts
from raylight.runs.sweep_dir import REPEATS, overrides_of

OWN_TO_A_RUN = (
    *REPEATS,
    "trainer.precision",
    "trainer.channels_last",
    "trainer.threads",
    "trainer.progress",
    "decode",
    "ray",
    "logger",
    "report",
    "notes",
    "run",
    "resume",
    "cache_dir",
)
"""Settings that may differ between runs of one recipe: seeds and folds, and settings that don't affect the result."""


@dataclass(frozen=True)
class ImageVote:
    """The predictions of a recipe's runs for one image, combined.

    Attributes:
        label: its class.
        right: share of the runs that predict its class.
        predicted: the class that most runs predict; in a tie, the more probable one.
        probability: of that class, mean over the runs.
    """

    label: int
    right: float
    predicted: int
    probability: float

    @property
    def most_are_right(self) -> bool:
        """Whether most runs are right."""
        return self.predicted == self.label


@dataclass(frozen=True)
class Recipe:
    """A configuration and its runs.

    Attributes:
        name: unique among the recipes compared.
        replicates: its runs, or cross-validations, by seed.
    """

    name: str
    replicates: tuple[Replicate, ...]

    @cached_property
    def metrics(self) -> Mapping[str, Spread]:
        """Each metric over its runs, by name."""
        cells = [as_json(one.estimates) for one in self.replicates]
        found = {name: spread(name, [cell[name] for cell in cells]) for name in METRICS}
        runs = [one.facts.metrics for one in self.replicates if len(one.runs) == 1]  # folds are joined by METRICS alone
        own = dict.fromkeys(name for metrics in runs for name in reported(metrics) if name not in found)
        return found | {name: spread(name, [metrics.get(f"test/{name}") for metrics in runs]) for name in own}

    @property
    def facts(self) -> RunFacts:
        """The facts of its first run."""
        return self.replicates[0].facts

    @property
    def run_predictions(self) -> list[RunPredictions]:
        """The predictions of each run."""
        return [RunPredictions(one.images, one.threshold) for one in self.replicates]

    @property
    def seconds(self) -> float | None:
        """Mean training time of its runs."""
        times = [one.seconds for one in self.replicates if one.seconds is not None]
        return sum(times) / len(times) if times else None

    @property
    def parameters(self) -> int | None:
        """Number of parameters of its network."""
        return self.replicates[0].parameters

    @cached_property
    def paths(self) -> Mapping[str, str]:
        """The file of each content that a run was tested on."""
        return {key: path for one in reversed(self.replicates) for key, path in one.paths.items()}

    @cached_property
    def votes(self) -> Mapping[str, ImageVote]:
        """The combined predictions by content, in the order of the first run's images."""
        rows: dict[str, list[tuple[int, int, Float[np.ndarray, " class"]]]] = defaultdict(list)
        for one in self.replicates:
            predicted: Int[np.ndarray, " image"] = one.images.predicted(one.threshold)
            for i, key in enumerate(one.images.paths):
                rows[key].append((int(one.images.labels[i]), int(predicted[i]), one.images.probabilities[i]))
        return {key: _vote(of_image) for key, of_image in rows.items()}


def recipes_of(runs: Sequence[RunFacts]) -> list[Recipe]:
    """Group runs by recipe, in their order; folds of cross-validations are joined.

    Raises:
        IncomparableError: a fold of one cross-validation is missing in another, or occurs twice.
    """
    groups: dict[tuple[tuple[str, str], ...], list[RunFacts]] = defaultdict(list)
    for one in runs:
        groups[_identity(one)].append(one)
    names = _names([group[0] for group in groups.values()])
    if _cross_validated(list(groups.values())):
        by_seed = [_by_seed(group) for group in groups.values()]
        _check_folds(names, by_seed)
        replicates = [[joined_folds(folds) for folds in seeds.values()] for seeds in by_seed]
    else:
        replicates = [[single_run(one) for one in group] for group in groups.values()]
    return [
        Recipe(name, tuple(sorted(of, key=lambda one: one.seed))) for name, of in zip(names, replicates, strict=True)
    ]


def _vote(runs: Sequence[tuple[int, int, Float[np.ndarray, " class"]]]) -> ImageVote:
    label = runs[0][0]
    votes = Counter(predicted for _, predicted, _ in runs)
    mean = np.mean([probabilities for _, _, probabilities in runs], axis=0)
    predicted = max(votes, key=lambda one: (votes[one], mean[one]))
    return ImageVote(label, votes[label] / len(runs), predicted, float(mean[predicted]))


def _cross_validated(groups: Sequence[Sequence[RunFacts]]) -> bool:
    """Whether these are folds to be joined; a single fold per recipe is compared on the test images like any run."""
    folds = [{(one.config.seed, one.config.data.fold) for one in group} for group in groups]
    return all(None not in {fold for _, fold in some} for some in folds) and any(
        len({fold for _, fold in some}) > 1 for some in folds
    )


def _by_seed(runs: Sequence[RunFacts]) -> dict[tuple[int, int], list[RunFacts]]:
    """The folds of each repetition of a cross-validation."""
    seeds: dict[tuple[int, int], list[RunFacts]] = defaultdict(list)
    for one in runs:
        seeds[one.config.seed, one.config.split_seed].append(one)
    return seeds


def _check_folds(names: Sequence[str], by_seed: Sequence[Mapping[tuple[int, int], Sequence[RunFacts]]]) -> None:
    several = any(len(seeds) > 1 for seeds in by_seed)
    held = [
        (f"{name} seed={seed}" if several else name, held_folds(folds))
        for name, seeds in zip(names, by_seed, strict=True)
        for (seed, _), folds in seeds.items()
    ]
    for name, folds in held:
        if folds != held[0][1] or len(set(folds)) < len(folds):
            raise IncomparableError(
                f"The folds don't match: {held[0][0]} has {listed(held[0][1])}, {name} has {listed(folds)}. "
                "Give each fold of each configuration once."
            )


def _identity(facts: RunFacts) -> tuple[tuple[str, str], ...]:
    """The settings that make a recipe."""

    def leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
        for name, value in node.items():
            key = f"{prefix}{name}"
            if key in OWN_TO_A_RUN:
                continue
            if isinstance(value, Mapping):
                yield from leaves(value, f"{key}.")
            else:
                yield key, repr(value)

    return tuple(sorted(leaves(facts.settings)))


def _is_own_to_a_run(key: str) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in OWN_TO_A_RUN)


def _names(firsts: Sequence[RunFacts]) -> list[str]:
    """Name recipes by the overrides that differ, else by the model, with the folder's name where that isn't unique.

    Weights, which are a path, are left out where the rest is unique.
    """
    typed = [[text.lstrip("+") for text in overrides_of(one.run) or ()] for one in firsts]
    chosen = [[text for text in texts if not _is_own_to_a_run(text.partition("=")[0])] for texts in typed]
    shared = set(chosen[0]).intersection(*chosen[1:])
    parts = []
    for one, overrides in zip(firsts, chosen, strict=True):
        differing = [text for text in overrides if text not in shared]
        model = [] if any(text.startswith("model=") for text in differing) else [one.config.model.name]
        parts.append(model + differing)
    names = [" ".join(text for text in words if not text.startswith("model.weights=")) for words in parts]
    if len(set(names)) < len(names):
        names = [" ".join(words) for words in parts]
    times = Counter(names)
    return [
        name if times[name] == 1 else f"{name} ({one.run.path.name})" for name, one in zip(names, firsts, strict=True)
    ]


def listed(items: Sequence[object]) -> str:
    """Join items with commas."""
    return ", ".join(map(str, items))
