"""How often ``raylight compare`` is wrong about recipes, by simulation: false alarms, and intervals that miss.

Two recipes are equally good. Each run of one has an accuracy of its own (standard deviation over seeds: 0, .01, .03), and is
right on an image where a normal variable lies below what that accuracy asks for. The variable has a part of the image (hard
for all), a part of recipe and image (hard for one recipe) and a part of run and image. Bars: 3 to 7 % false alarms; at
least 93 % of the intervals of a recipe's mean accuracy hold the truth.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool
from scipy.stats import norm

from raylight.evaluation.differences.random_effects import (
    RunPredictions,
    compare_by_split,
    compare_recipes,
    nested_difference,
    spread,
)
from raylight.evaluation.intervals import wilson
from raylight.evaluation.predictions import Predictions

ACCURACY = 0.9
SEED_DEVIATIONS = (0.0, 0.01, 0.03)
IMAGES = (40, 200, 2000)
RUNS = (2, 3, 5)
SHARES = (0.6, 0.1, 0.3)
"""Of the variance: image, recipe and image, run and image."""


@dataclass(frozen=True)
class Row:
    """One simulated situation.

    Attributes:
        what: is measured.
        metric: of which.
        n: test images.
        runs: of each recipe.
        seed_deviation: standard deviation of the true accuracy over seeds.
        rate: how often it happened, 0 to 1.
        error: Monte-Carlo standard error of the rate.
    """

    what: str
    metric: str
    n: int
    runs: int
    seed_deviation: float
    rate: float
    error: float


def rows(pool: Executor, repeats: int = 4000) -> list[Row]:
    """Simulate all situations.

    Args:
        pool: of processes.
        repeats: of each; fewer where more is computed.
    """
    jobs = []
    for seed_deviation in SEED_DEVIATIONS:
        for n in IMAGES:
            for runs in RUNS:
                where = n, runs, seed_deviation
                jobs.append(pool.submit(_row, "false alarms", "accuracy", where, repeats, _false_alarm))
                jobs.append(
                    pool.submit(_row, "intervals that hold the mean", "accuracy", where, repeats // 4, _mean_held)
                )
        where = 200, 3, seed_deviation
        for metric in ("auroc", "average_precision", "mcc", "brier"):
            alarm = partial(_metric_alarm, metric)
            jobs.append(pool.submit(_row, "false alarms", metric, where, repeats // 8, alarm))
        for runs in (3, 5):
            where = 200, runs, seed_deviation
            what = "false alarms, a split per seed"
            jobs.append(pool.submit(_row, what, "accuracy", where, repeats // 4, _by_split))
    return [job.result() for job in jobs]


def _row(
    what: str,
    metric: str,
    where: tuple[int, int, float],
    repeats: int,
    happens: Callable[[np.random.Generator, int, int, float], bool],
) -> Row:
    n, runs, seed_deviation = where
    rng = np.random.default_rng([n, runs, int(1000 * seed_deviation)])
    rate = float(np.mean([happens(rng, n, runs, seed_deviation) for _ in range(repeats)]))
    return Row(what, metric, n, runs, seed_deviation, rate, float(np.sqrt(rate * (1 - rate) / repeats)))


def right_images(
    rng: np.random.Generator, n: int, runs: int, seed_deviation: float, recipes: int = 2
) -> Bool[np.ndarray, "recipe run image"]:
    """Which images each run of each recipe is right on."""
    image, recipe, run = np.sqrt(SHARES)
    hardness = (
        image * rng.normal(size=n)
        + recipe * rng.normal(size=(recipes, 1, n))
        + run * rng.normal(size=(recipes, runs, n))
    )
    accuracy = np.clip(ACCURACY + seed_deviation * rng.normal(size=(recipes, runs, 1)), 0.01, 0.999)
    return hardness < norm.ppf(accuracy)


def _false_alarm(rng: np.random.Generator, n: int, runs: int, seed_deviation: float) -> bool:
    right = right_images(rng, n, runs, seed_deviation).reshape(2 * runs, n).astype(float)
    blocks = min(n, 400)
    block = np.arange(n) % blocks
    sums = np.stack([np.bincount(block, weights=one) for one in right], axis=1)
    left_out = (right.sum(axis=1) - sums) / (n - np.bincount(block))[:, None]
    return nested_difference((0.0, 1.0), right.mean(axis=1), left_out, runs).p_value < 0.05


def _mean_held(rng: np.random.Generator, n: int, runs: int, seed_deviation: float) -> bool:
    (right,) = right_images(rng, n, runs, seed_deviation, recipes=1)
    estimates = [
        {"value": one.mean(), **dict(zip(("low", "high"), wilson(one.sum(), n), strict=True))} for one in right
    ]
    found = spread("accuracy", estimates)
    assert found.low is not None
    assert found.high is not None
    return found.low <= ACCURACY <= found.high


def _judged(
    right: Bool[np.ndarray, "run image"], labels: np.ndarray, names: list[str], sure: np.ndarray
) -> list[RunPredictions]:
    found = []
    for one in right:
        probability = np.where(one == (labels == 1), sure, 1 - sure)
        found.append(
            RunPredictions(
                Predictions(
                    paths=names,
                    splits=["test"] * len(names),
                    labels=labels,
                    probabilities=np.stack([1 - probability, probability], axis=1),
                    class_names=("cat", "dog"),
                    positive_class="dog",
                ),
                None,
            )
        )
    return found


def _metric_alarm(metric: str, rng: np.random.Generator, n: int, runs: int, seed_deviation: float) -> bool:
    right = right_images(rng, n, runs, seed_deviation)
    labels = np.arange(n) % 2
    names = [str(i) for i in range(n)]
    recipes = [_judged(one, labels, names, rng.uniform(0.5, 1, n)) for one in right]
    return compare_recipes(recipes[0], recipes[1])[metric].p_value < 0.05


def _by_split(rng: np.random.Generator, n: int, runs: int, seed_deviation: float) -> bool:
    """Each seed tests on n of 10 n images; what overlapping training sets have in common isn't simulated."""
    pool = 10 * n
    right = right_images(rng, pool, runs, seed_deviation)
    tested = [rng.permutation(pool)[:n] for _ in range(runs)]
    recipes = [
        [
            judged
            for one, images in zip(recipe, tested, strict=True)
            for judged in _judged(one[None, images], images % 2, [str(i) for i in images], np.full(n, 0.8))
        ]
        for recipe in right
    ]
    return compare_by_split(recipes[0], recipes[1], 1 / 8)["accuracy"].p_value < 0.05


def table(found: list[Row]) -> Iterator[str]:
    """The rows in Markdown."""
    yield "| what | metric | n | runs | seed sd | rate | ± |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in found:
        yield (
            f"| {row.what} | {row.metric} | {row.n} | {row.runs} | {row.seed_deviation} | {100 * row.rate:.1f} % "
            f"| {100 * row.error:.1f} |"
        )
