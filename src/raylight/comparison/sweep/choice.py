"""The configuration of a sweep that validation chooses, and the selection bias of its result.

Test images aren't used: they evaluate the configuration that was chosen. Leaves out the table (``table``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raylight.comparison.replicates import by_content
from raylight.comparison.sweep.rows import Row
from raylight.config.rules.metric_names import METRICS, better
from raylight.evaluation.differences.random_effects import Spread
from raylight.evaluation.differences.selection import selection_optimism
from raylight.evaluation.predictions import read_csv
from raylight.report.facts import RunFacts

FEWEST = 10
"""Validation images that all configurations must share for the selection bias to be estimated."""


@dataclass(frozen=True)
class Choice:
    """The configuration chosen on validation.

    Attributes:
        by: the validation metric, such as ``val/loss``.
        row: the configuration with the best mean.
        candidates: number of configurations with a validation result.
        optimism: bias of its validation accuracy by having been chosen; None where that can't be estimated.
    """

    by: str
    row: Row
    candidates: int
    optimism: float | None


def choose(rows: Sequence[Row], differing: Sequence[str]) -> Choice | None:
    """Choose a configuration on validation; None without two that have a validation result.

    The metric is the one that chose the checkpoints, if it is the same in all runs. Losses of different loss settings can't be
    compared; accuracy is used then. Nothing is chosen where some runs took the lowest value and others the highest.

    Args:
        rows: the configurations.
        differing: the settings in which they differ.
    """
    monitors = {job.monitor for row in rows for job in row.jobs if job.monitor is not None}
    monitor = monitors.pop() if len(monitors) == 1 else ""
    losses_differ = monitor == "val/loss" and any(name.partition(".")[0] == "loss" for name in differing)
    by = monitor if monitor.startswith("val/") and not losses_differ else "val/accuracy"
    means = [(value, row) for row in rows if (value := validation(row, by).mean) is not None]
    if len(means) < 2:
        return None
    own = by.removeprefix("val/") not in ("loss", *METRICS)
    modes = {better(by, job.monitor_mode) for row in rows for job in row.jobs if job.monitor} if own else {better(by)}
    if len(modes) != 1:
        return None
    _, best = (min if modes == {"min"} else max)(means, key=lambda one: one[0])
    candidates = [row for _, row in means]
    return Choice(by, best, len(candidates), _optimism(candidates, by))


def validation(row: Row, by: str) -> Spread:
    """A configuration's value of the metric that configurations are chosen by."""
    return row.validation[name] if (name := by.removeprefix("val/")) in row.validation else row.monitored


def choice_note(choice: Choice) -> str:
    """Describe what was chosen, and its bias."""
    note = (
        f"Marked is the configuration that validation chooses (best mean {choice.by}): {choice.row.name}. Don't "
        "choose by test results: the best of several test results is optimistic."
    )
    if choice.optimism is None:
        return (
            f"{note} The bias of its validation result by having been chosen can't be estimated: configurations share too few "
            "validation images, or predictions are missing."
        )
    return (
        f"{note} As the best of {choice.candidates} its validation accuracy is too high by about {choice.optimism:.3f} "
        "(chosen on resampled images, evaluated on the others); choosing by test accuracy would be biased by as much."
    )


def _optimism(rows: Sequence[Row], by: str) -> float | None:
    """Estimated on the images that all configurations were validated on; runs of one configuration are averaged."""
    scores: list[dict[str, list[tuple[float, float]]]] = []
    for row in rows:
        of_row: dict[str, list[tuple[float, float]]] = {}
        for job in row.jobs:
            if job.state != "finished":
                continue
            if not all(
                (job.run / name).is_file() for name in ("predictions.csv", "index.parquet", "preprocessing.json")
            ):
                return None
            facts = RunFacts(job.run)
            predictions = read_csv(job.run / "predictions.csv", str(facts.input["positive_class"])).subset("val")
            images, _ = by_content(facts, predictions)
            right = images.predicted(facts.threshold) == images.labels
            likelihood = np.log(np.maximum(images.probabilities[np.arange(len(images)), images.labels], 1e-12))
            for key, *both in zip(images.paths, likelihood.tolist(), right.tolist(), strict=True):
                of_row.setdefault(key, []).append((float(both[0]), float(both[1])))
        scores.append(of_row)
    shared = sorted(set.intersection(*(set(one) for one in scores)))
    if len(shared) < FEWEST:
        return None
    means = np.array([[np.mean(one[key], axis=0) for one in scores] for key in shared])
    return selection_optimism(means[:, :, 0] if by == "val/loss" else means[:, :, 1], means[:, :, 1])
