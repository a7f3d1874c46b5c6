"""The jobs of a sweep, and its rows: one per configuration, over seeds and folds.

Leaves out the table of them (``table``).
"""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from raylight.config.rules.metric_names import METRICS, reported
from raylight.errors import RunError
from raylight.evaluation.differences.random_effects import Spread, spread
from raylight.report.facts import RunFacts, parameters_of
from raylight.runs.run_dir import STATUS_FILE, RunDir, state_of
from raylight.runs.sweep_dir import overrides_of


@dataclass(frozen=True)
class Job:
    """A job of a sweep, read from its folder.

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
        """Peak memory of the job's process, in GB."""
        return self.cost.get("peak_memory_gb")

    @property
    def cost(self) -> Mapping[str, Any]:
        """Seconds by stage and the like; empty where the job didn't finish."""
        cost: Mapping[str, Any] = self.metrics.get("cost", {})
        return cost

    @property
    def monitor(self) -> str | None:
        """The metric that chose its checkpoint; None where the job didn't finish."""
        monitor: str | None = self.metrics.get("provenance", {}).get("selected_by")
        return monitor

    @property
    def monitor_mode(self) -> str:
        """Whether the lowest or the highest value of that metric chose it: ``trainer.monitor_mode``."""
        return RunFacts(self.run).config.trainer.monitor_mode

    @property
    def tested(self) -> str | None:
        """Which images it was tested on; None where the job didn't finish."""
        tested: str | None = self.metrics.get("provenance", {}).get("test_files_sha256")
        return tested


@dataclass(frozen=True)
class Row:
    """A configuration and the results of its jobs.

    Attributes:
        choices: setting and value, of the settings that differ between rows.
        jobs: its jobs.
        metrics: of test, by name.
        validation: likewise of validation.
        monitored: the metric that chose the checkpoints, at the chosen ones.
        parameters: of the network.
        seconds: mean of the finished jobs.
        training_seconds: the same of training alone.
        memory_gb: highest peak memory of a finished job.
    """

    choices: Mapping[str, str]
    jobs: tuple[Job, ...]
    metrics: Mapping[str, Spread]
    validation: Mapping[str, Spread]
    monitored: Spread
    parameters: int | None
    seconds: float | None
    training_seconds: float | None
    memory_gb: float | None

    @property
    def name(self) -> str:
        """The settings that differ, as text."""
        return " ".join(f"{name}={value}" for name, value in self.choices.items()) or "as configured"

    @property
    def finished(self) -> int:
        """How many of its jobs finished."""
        return sum(job.state == "finished" for job in self.jobs)


def read_job(run: RunDir) -> Job:
    """Read a job from its run folder; a job with broken files counts as interrupted."""
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


def row_of(choices: Mapping[str, str], jobs: Sequence[Job]) -> Row:
    """Summarise a configuration.

    Args:
        choices: the settings that differ between rows.
        jobs: its jobs.
    """
    finished = [job for job in jobs if job.state == "finished"]
    names = dict.fromkeys([*METRICS, *(name for job in finished for name in reported(job.metrics))])
    memory = [job.memory_gb for job in finished if job.memory_gb is not None]
    return Row(
        choices=choices,
        jobs=tuple(jobs),
        metrics={name: spread(name, [job.metrics.get(f"test/{name}") for job in finished]) for name in names},
        validation={
            name: found
            for name in names
            if (found := spread(name, [job.metrics.get(f"val/{name}") for job in finished])).mean is not None
        },
        monitored=spread("", [_monitored(job) for job in finished]),
        parameters=next((job.parameters for job in finished if job.parameters is not None), None),
        seconds=_mean([job.seconds for job in finished]),
        training_seconds=_mean([job.training_seconds for job in finished]),
        memory_gb=max(memory) if memory else None,
    )


def _monitored(job: Job) -> dict[str, Any]:
    return {"value": job.metrics.get("provenance", {}).get("selected_value"), "low": None, "high": None}


def _choice(override: str) -> tuple[str, str]:
    name, _, value = override.lstrip("+").partition("=")
    return name, value


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _one_line(text: str) -> str:
    lines = [line.strip(" -") for line in text.splitlines() if line.strip()]
    return " ".join(lines[1:] if len(lines) > 1 and lines[0].endswith(":") else lines)
