"""The folder of a sweep: which run folders it holds, and which of them was which job.

Leaves out what the runs found out (``report.sweep_table``).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from raylight.runs.run_dir import STATUS_FILE, RunDir

OVERRIDES_FILE = "overrides.json"
"""What was chosen for a run on the command line: a list such as ``["model=cnn5", "seed=2"]``."""


def run_folders(sweep: Path) -> list[RunDir]:
    """The run folders right below a folder, in the order of their jobs' numbers."""

    def number(path: Path) -> tuple[int, str]:
        first = path.name.split("-")[0]
        return (int(first) if first.isdigit() else 0, path.name)

    return [RunDir(path) for path in sorted(sweep.iterdir(), key=number) if (path / STATUS_FILE).is_file()]


def overrides_of(run: RunDir) -> tuple[str, ...] | None:
    """What was chosen for a run on the command line; None where the run doesn't tell."""
    return tuple(run.read_json(OVERRIDES_FILE)) if (run / OVERRIDES_FILE).is_file() else None


def earlier_run(sweep: Path, overrides: Sequence[str]) -> RunDir | None:
    """The run folder in a sweep that was made by the same overrides, whatever became of it; None where there is none.

    A job killed before it had written its config left nothing to go on with; it is forgotten.
    """
    wanted = _chosen(overrides)
    for run in _whole(sweep):
        if _chosen(overrides_of(run) or ()) == wanted:
            return run
    return None


def unused(folder: Path) -> Path:
    """A folder for a new run: this one, or with a number behind where it belongs to another run."""
    number, free = 1, folder
    while (free / STATUS_FILE).exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _whole(sweep: Path) -> Iterator[RunDir]:
    for run in run_folders(sweep):
        if (
            all((run / name).is_file() for name in ("config.yaml", OVERRIDES_FILE))
            and (run / STATUS_FILE).stat().st_size
        ):
            yield run


def _chosen(overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides as a set of choices, however they were written."""
    plain = (text.lstrip("+") for text in overrides)
    return tuple(sorted(text for text in plain if not text.startswith("resume=")))
