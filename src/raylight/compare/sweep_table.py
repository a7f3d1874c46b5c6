"""The table of a sweep: a row a configuration, mean and spread over seeds of each test metric, with its interval.

Covers reading the jobs from their folders and summing them up. Leaves out the files that the table is written to
(``sweep_files``) and whether a difference between two rows is more than chance (``comparison``).
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylight.config.metric_names import METRICS
from raylight.errors import RunError
from raylight.evaluation.zero_events import RANGES
from raylight.report.facts import parameters_of
from raylight.runs.run_dir import STATUS_FILE, RunDir, state_of
from raylight.runs.sweep_dir import overrides_of, run_folders

REPEATS = ("seed", "data.fold")
"""Settings that repeat a configuration instead of making another one."""

SEARCH_FILE = "optuna.yaml"
"""Where a search sums itself up."""

METHOD = (
    "Mean ± standard deviation over the seeds (and folds) of a configuration. The 95 % interval of several runs allows for "
    "both sources of chance: Student's t over the runs, and the images, by the mean width of the runs' own intervals "
    "(added in squares). The interval of a single run is its own, and knows nothing of other seeds."
)


@dataclass(frozen=True)
class Job:
    """A job of a sweep, as its folder tells.

    Attributes:
        run: its folder.
        choices: setting and value of each override, in the order typed.
        state: finished, failed, interrupted or running.
        reason: why it ended, in one line; None where it finished.
        metrics: ``metrics.json``; empty unless finished.
        parameters: of the network; None where there is none.
        seconds: of the whole job.
    """

    run: RunDir
    choices: Mapping[str, str]
    state: str
    reason: str | None
    metrics: Mapping[str, Any]
    parameters: int | None
    seconds: float | None

    @property
    def training_seconds(self) -> float | None:
        """Seconds of training alone, which other jobs' caches don't shorten."""
        seconds: float | None = self.cost.get("seconds", {}).get("training")
        return seconds

    @property
    def memory_gb(self) -> float | None:
        """The most memory that the job's process held."""
        return self.cost.get("peak_memory_gb")

    @property
    def cost(self) -> Mapping[str, Any]:
        """Seconds by stage and the like; empty where the job didn't finish."""
        cost: Mapping[str, Any] = self.metrics.get("cost", {})
        return cost

    @property
    def repeats(self) -> str:
        """Which seed and fold this is, such as ``seed=2``; empty where neither was chosen."""
        return " ".join(f"{name}={self.choices[name]}" for name in REPEATS if name in self.choices)


@dataclass(frozen=True)
class Spread:
    """A metric of a configuration.

    Attributes:
        mean: over its finished runs; None where it isn't defined.
        deviation: standard deviation over the runs; None with a single run.
        low: lower bound of the 95 % interval of the mean.
        high: upper bound.
        runs: how many runs it rests on.
    """

    mean: float | None
    deviation: float | None
    low: float | None
    high: float | None
    runs: int


@dataclass(frozen=True)
class Row:
    """A configuration and what became of its jobs.

    Attributes:
        choices: setting and value, of the settings that differ between rows.
        jobs: its jobs.
        metrics: by name.
        parameters: of the network.
        seconds: mean of the finished jobs.
        training_seconds: the same of training alone.
        memory_gb: the most that a finished job held.
    """

    choices: Mapping[str, str]
    jobs: tuple[Job, ...]
    metrics: Mapping[str, Spread]
    parameters: int | None
    seconds: float | None
    training_seconds: float | None
    memory_gb: float | None

    @property
    def label(self) -> str:
        """The configuration in a few words."""
        return " ".join(f"{name}={value}" for name, value in self.choices.items()) or "as configured"

    @property
    def finished(self) -> int:
        """How many of its jobs finished."""
        return sum(job.state == "finished" for job in self.jobs)


@dataclass(frozen=True)
class SweepTable:
    """A sweep in one table.

    Attributes:
        folder: of the sweep.
        rows: a configuration each, in the order of their first jobs.
        fixed: settings that all jobs were given alike.
        notes: what a reader must know of the numbers.
    """

    folder: Path
    rows: tuple[Row, ...]
    fixed: Mapping[str, str]
    notes: tuple[str, ...]

    @property
    def jobs(self) -> list[Job]:
        """Every job."""
        return [job for row in self.rows for job in row.jobs]

    @property
    def unfinished(self) -> list[Job]:
        """The jobs without a result."""
        return [job for job in self.jobs if job.state != "finished"]

    @property
    def settings(self) -> list[str]:
        """The settings that differ between rows."""
        return list(dict.fromkeys(name for row in self.rows for name in row.choices))


def sweep_table(folder: Path) -> SweepTable:
    """Sum up a sweep from its run folders.

    Args:
        folder: of the sweep.

    Raises:
        RunError: there is no run folder in it.
    """
    jobs = [read_job(run) for run in run_folders(folder)] if folder.is_dir() else []
    if not jobs:
        raise RunError(f"{folder} is not the folder of a sweep: there is no run folder in it.")
    grouped: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        grouped.setdefault(_configuration(job), []).append(job)
    names = list(dict.fromkeys(name for key in grouped for name, _ in key))
    differing = [name for name in names if len({dict(key).get(name) for key in grouped}) > 1]
    rows = tuple(_row({name: dict(key).get(name, "–") for name in differing}, of) for key, of in grouped.items())
    first = dict(next(iter(grouped)))
    fixed = {name: value for name, value in first.items() if name not in differing}
    return SweepTable(folder, rows, fixed, (*_notes(rows), *_search_notes(folder)))


def read_job(run: RunDir) -> Job:
    """What a run folder tells of its job; a job whose files are broken counts as failed."""
    choices = dict(_choice(text) for text in overrides_of(run) or ())
    try:
        status = run.read_json(STATUS_FILE)
        state, reason = state_of(run), status["reason"]
        metrics = run.read_json("metrics.json") if state == "finished" else {}
    except RunError as error:
        return Job(run, choices, "interrupted", _one_line(str(error)), {}, None, None)
    if state == "interrupted" and reason is None:
        reason = f"its process ended while {status['stage']}"
    return Job(
        run=run,
        choices=choices,
        state=state,
        reason=_one_line(reason) if reason else None,
        metrics=metrics,
        parameters=parameters_of(run),
        seconds=status["seconds"],
    )


def spread(name: str, estimates: Sequence[Mapping[str, Any] | None]) -> Spread:
    """Sum up a metric over the runs of one configuration.

    Args:
        name: of the metric.
        estimates: one a run, as ``metrics.json`` holds them; those that are missing or not defined are left aside.

    Returns:
        Mean, standard deviation and the interval that ``METHOD`` explains: with k runs of values v and own bounds
        l and h it reaches from the mean by sqrt((t s / sqrt(k))^2 + mean(v - l)^2) downwards, likewise upwards, within
        the metric's range.
    """
    known = [estimate for estimate in estimates if estimate and estimate["value"] is not None]
    if not known:
        return Spread(None, None, None, None, 0)
    values = [float(estimate["value"]) for estimate in known]
    mean = statistics.fmean(values)
    bounded = [e for e in known if e["low"] is not None and e["high"] is not None]
    if not bounded:
        return Spread(mean, statistics.stdev(values) if len(values) > 1 else None, None, None, len(values))
    below = statistics.fmean(e["value"] - e["low"] for e in bounded)
    above = statistics.fmean(e["high"] - e["value"] for e in bounded)
    if len(values) == 1:
        return Spread(mean, None, known[0]["low"], known[0]["high"], 1)
    from scipy.stats import t

    deviation = statistics.stdev(values)
    over_runs = float(t.ppf(0.975, len(values) - 1)) * deviation / math.sqrt(len(values))
    least, most = RANGES.get(name, (0.0, 1.0))
    low = max(least, mean - math.hypot(over_runs, below))
    high = min(most, mean + math.hypot(over_runs, above))
    return Spread(mean, deviation, low, high, len(values))


def _row(choices: Mapping[str, str], jobs: Sequence[Job]) -> Row:
    finished = [job for job in jobs if job.state == "finished"]
    memory = [job.memory_gb for job in finished if job.memory_gb is not None]
    return Row(
        choices=choices,
        jobs=tuple(jobs),
        metrics={name: spread(name, [job.metrics.get(f"test/{name}") for job in finished]) for name in METRICS},
        parameters=next((job.parameters for job in finished if job.parameters is not None), None),
        seconds=_mean([job.seconds for job in finished]),
        training_seconds=_mean([job.training_seconds for job in finished]),
        memory_gb=max(memory) if memory else None,
    )


def _notes(rows: Sequence[Row]) -> list[str]:
    notes = [METHOD]
    jobs = [job for row in rows for job in row.jobs]
    tested = {job.metrics["provenance"]["test_files_sha256"] for job in jobs if "provenance" in job.metrics}
    if len(tested) > 1:
        notes.append(
            f"The jobs were tested on {len(tested)} different sets of images, because the split follows the seed; the spread "
            "includes that. data.split_seed=1 keeps the split the same for all seeds."
        )
    if any(row.finished == 2 for row in rows):
        notes.append(
            "Two runs say little about their spread, and t is large for them; with three or more the intervals shrink."
        )
    unfinished = sum(job.state != "finished" for job in jobs)
    if unfinished:
        notes.append(f"{unfinished} of {len(jobs)} jobs have no result; means are over the others.")
    return notes


def _search_notes(folder: Path) -> list[str]:
    """What a search says of its trials, where the sweep was one."""
    from omegaconf import OmegaConf

    path = folder / SEARCH_FILE
    if not path.is_file():
        return []
    found: Any = OmegaConf.to_container(OmegaConf.load(path))
    notes = []
    if "best_params" in found:
        chosen = " ".join(f"{name}={value}" for name, value in found["best_params"].items())
        notes.append(
            f"A search by the validation metric that chooses checkpoints ({found['direction']}d): best was {chosen}, with "
            f"{found['best_value']:.4f}. Many trials on one validation split flatter the best one; test doesn't know of them."
        )
    if found["pruned_after_epoch"]:
        pruned = ", ".join(f"{number} (epoch {epoch})" for number, epoch in found["pruned_after_epoch"].items())
        notes.append(
            f"Stopped early, because others were better at the same epoch: job {pruned}. What they reached is of less training."
        )
    return notes


def _configuration(job: Job) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in job.choices.items() if name not in REPEATS)


def _choice(override: str) -> tuple[str, str]:
    name, _, value = override.lstrip("+").partition("=")
    return name, value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _one_line(text: str) -> str:
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    return " ".join(lines[1:] if len(lines) > 1 and lines[0].endswith(":") else lines)
