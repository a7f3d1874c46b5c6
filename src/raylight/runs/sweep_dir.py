"""The folder of a sweep: its run folders, and which job each of them belongs to.

Leaves out the results (``comparison.sweep.table``).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from raylight.runs.run_dir import STATUS_FILE, RunDir

REPEATS = ("seed", "data.fold", "data.split_seed")
"""Settings that repeat a recipe instead of making another one."""

LEVELS = 4
"""How far below a sweep's folder its runs may lie."""

OVERRIDES_FILE = "overrides.json"
"""What was chosen for a run on the command line: a list such as ``["model=cnn5", "seed=2"]``."""


def run_folders(sweep: Path) -> list[RunDir]:
    """The run folders below a folder, in the order of their jobs' numbers.

    Args:
        sweep: its runs lie right below it, or deeper, as ``hydra.sweep.subdir`` says.
    """

    def number(path: Path) -> tuple[int, str]:
        first = path.name.split("-")[0]
        return (int(first) if first.isdigit() else 0, str(path))

    return [RunDir(path) for path in sorted(_run_folders(sweep, LEVELS), key=number)]


def _run_folders(folder: Path, levels: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_dir():
            continue
        if (path / STATUS_FILE).is_file():
            yield path
        elif levels > 1:
            yield from _run_folders(path, levels - 1)


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
