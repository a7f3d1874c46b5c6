"""The table of a sweep: a row per configuration, with mean, standard deviation over seeds and interval of each metric.

Covers reading the jobs from their folders, the configuration that validation chooses, and notes on the numbers. Leaves out the
files that the table is written to (``sweep.files``) and whether two rows differ by more than chance (``study``).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylight.comparison.sweep.choice import Choice, choice_note, choose
from raylight.comparison.sweep.rows import Job, Row, read_job, row_of
from raylight.config.rules.metric_names import reported
from raylight.errors import RunError
from raylight.evaluation.caveats import caveat_sentences
from raylight.runs.sweep_dir import REPEATS, run_folders

SEARCH_FILE = "optuna.yaml"
"""The summary of a search."""

METHOD = (
    "Mean ± standard deviation over the seeds (and folds) of a configuration. The 95 % interval of several runs combines "
    "both sources of variance: Student's t over the runs, and the images, by the mean width of the runs' own intervals "
    "(added in squares; if anything too wide). The interval of a single run doesn't include the variance between "
    "seeds."
)


@dataclass(frozen=True)
class SweepTable:
    """A sweep in one table.

    Attributes:
        folder: of the sweep.
        rows: one per configuration, in the order of their first jobs.
        fixed: settings that all jobs have in common.
        choice: the configuration chosen on validation; None with fewer than two.
        notes: on the methods and limits of the numbers.
    """

    folder: Path
    rows: tuple[Row, ...]
    fixed: Mapping[str, str]
    choice: Choice | None
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

    def repeats(self, job: Job) -> str:
        """The seed and fold of a job, such as ``seed=2``; empty where all jobs have the same."""
        differing = [name for name in REPEATS if len({one.choices.get(name) for one in self.jobs}) > 1]
        return " ".join(f"{name}={job.choices[name]}" for name in differing if name in job.choices)


def sweep_table(folder: Path) -> SweepTable:
    """Summarise a sweep from its run folders.

    Args:
        folder: of the sweep.

    Raises:
        RunError: there is no run folder in it.
    """
    jobs = [read_job(run) for run in run_folders(folder)] if folder.is_dir() else []
    if not jobs:
        raise RunError(f"{folder} is not the folder of a sweep: it contains no run folder.")
    grouped: dict[tuple[tuple[str, str], ...], list[Job]] = {}
    for job in jobs:
        grouped.setdefault(_configuration(job), []).append(job)
    names = list(dict.fromkeys(name for key in grouped for name, _ in key))
    differing = [name for name in names if len({dict(key).get(name) for key in grouped}) > 1]
    rows = tuple(row_of({name: dict(key).get(name, "–") for name in differing}, of) for key, of in grouped.items())
    first = dict(next(iter(grouped)))
    fixed = {name: value for name, value in first.items() if name not in differing}
    choice = choose(rows, differing)
    chosen = [choice_note(choice)] if choice else []
    return SweepTable(folder, rows, fixed, choice, (*chosen, *_notes(rows, differing), *_search_notes(folder)))


def _notes(rows: Sequence[Row], differing: Sequence[str]) -> list[str]:
    notes = [METHOD]
    jobs = [job for row in rows for job in row.jobs]
    tested = [{job.tested for job in row.jobs if job.tested is not None} for row in rows]
    if any(len(sets) > 1 for sets in tested):
        notes.append(
            f"The jobs were tested on {len(set.union(*tested))} different sets of images, because their splits have different "
            "seeds; the standard deviation includes that. With one split for all (data.split_seed=1, the default) they can be "
            "compared image by image."
        )
    elif len(set.union(*tested)) > 1:
        names = [name for name in differing if name.partition(".")[0] == "data"]
        notes.append(
            f"Not all configurations were tested on the same images ({', '.join(names) or 'their data'} differs): a difference "
            "between their results may come from the images."
        )
    if any(metric.worth_another for row in rows for metric in row.metrics.values()):
        notes.append(
            "Two runs hardly estimate a standard deviation: Student's t is 12.7. Below an interval stands the one expected "
            "with a third run."
        )
    cells = {f"test/{name}": name for job in jobs for name in reported(job.metrics)}
    notes += caveat_sentences(
        {
            cells[key]: cell["caveat"]
            for job in jobs
            for key, cell in job.metrics.items()
            if key in cells and cell.get("caveat")
        }
    )
    notes += dict.fromkeys(line for job in jobs for line in job.metrics.get("split_warnings", []))
    unfinished = sum(job.state != "finished" for job in jobs)
    if unfinished:
        notes.append(f"{unfinished} of {len(jobs)} jobs have no result; means are over the others.")
    return notes


def _search_notes(folder: Path) -> list[str]:
    """Notes on the trials of a search, where the sweep was one."""
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
            f"{found['best_value']:.4f}. The best of many trials on one validation split is optimistic; test isn't affected."
        )
    if found["pruned_after_epoch"]:
        pruned = ", ".join(f"{number} (epoch {epoch + 1})" for number, epoch in found["pruned_after_epoch"].items())
        notes.append(
            f"Stopped early, because others were better at the same epoch: job {pruned}. They were trained for fewer epochs."
        )
    return notes


def _configuration(job: Job) -> tuple[tuple[str, str], ...]:
    return tuple((name, value) for name, value in job.choices.items() if name not in REPEATS)
