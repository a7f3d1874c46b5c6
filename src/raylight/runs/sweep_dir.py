"""The folder of a sweep: its run folders, and the job that each of them belongs to.

Leaves out the results (``comparison.sweep.table``).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from raylight.runs.run_dir import STATUS_FILE, RunDir

REPEATS = ("seed", "data.fold", "data.split_seed")
"""Settings that repeat a recipe; all others make a different one."""

MAX_DEPTH = 4
"""How many levels below the folder of a sweep its runs may be."""

OVERRIDES_FILE = "overrides.json"
"""The overrides of a run on the command line: a list such as ``["model=cnn5", "seed=2"]``."""


def run_folders(sweep: Path) -> list[RunDir]:
    """Finds the run folders below a folder.

    Args:
        sweep: the folder; runs are directly below it, or deeper, depending on ``hydra.sweep.subdir``.

    Returns:
        The run folders in the order of their job numbers.
    """

    def number(path: Path) -> tuple[int, str]:
        first = path.name.split("-")[0]
        return (int(first) if first.isdigit() else 0, str(path))

    return [RunDir(path) for path in sorted(_run_folders(sweep, MAX_DEPTH), key=number)]


def _run_folders(folder: Path, levels: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith(".") or not path.is_dir():
            continue
        if (path / STATUS_FILE).is_file():
            yield path
        elif levels > 1:
            yield from _run_folders(path, levels - 1)


def overrides_of(run: RunDir) -> tuple[str, ...] | None:
    """The overrides of a run on the command line; ``None`` if the run has no record of them."""
    return tuple(run.read_json(OVERRIDES_FILE)) if (run / OVERRIDES_FILE).is_file() else None


def earlier_run(sweep: Path, overrides: Sequence[str]) -> RunDir | None:
    """Finds the run of a job in the folder of a sweep, whatever its state.

    Args:
        sweep: the folder.
        overrides: of the job, in any order.

    Returns:
        The run with the same overrides; ``None`` if there is none, or if it was killed before it had written its config.
    """
    wanted = _normalized(overrides)
    for run in _resumable(sweep):
        if _normalized(overrides_of(run) or ()) == wanted:
            return run
    return None


def unused_folder(folder: Path) -> Path:
    """A folder for a new run: the given one, or, if that belongs to another run, its name with a number."""
    number, free = 1, folder
    while (free / STATUS_FILE).exists():
        number += 1
        free = folder.with_name(f"{folder.name}-{number}")
    return free


def _resumable(sweep: Path) -> Iterator[RunDir]:
    for run in run_folders(sweep):
        if (
            all((run / name).is_file() for name in ("config.yaml", OVERRIDES_FILE))
            and (run / STATUS_FILE).stat().st_size
        ):
            yield run


def _normalized(overrides: Sequence[str]) -> tuple[str, ...]:
    """Overrides without ``+`` and ``resume``, in alphabetical order."""
    plain = (text.lstrip("+") for text in overrides)
    return tuple(sorted(text for text in plain if not text.startswith("resume=")))
