"""``looks.csv``: who has looked at a run's test images, and when. Whatever is chosen by a further look is flattered by it."""

from datetime import UTC, datetime

from raylight.runs.run_dir import RunDir

LOOKS_FILE = "looks.csv"
_HEADER = "at,by\n"


def note_test(run: RunDir, epochs: int) -> None:
    """Note the run's own test, the first look; it counts once, however often the run was resumed, for each number of epochs."""
    by = f"train {epochs} epochs"
    if not (run / LOOKS_FILE).is_file():
        run.write_text(LOOKS_FILE, _HEADER)
    if by not in (run / LOOKS_FILE).read_text(encoding="utf-8"):
        count_look(run, by)


def looks(run: RunDir) -> int:
    """How often a run's test images have been looked at."""
    return max((run / LOOKS_FILE).read_text(encoding="utf-8").count("\n") - 1, 0)


def count_look(run: RunDir, by: str) -> int:
    """Note one more look; two at the same time are both noted.

    Args:
        run: its folder.
        by: the command that looked.

    Returns:
        How often they have been looked at by now.

    Raises:
        OSError: it can't be noted.
    """
    with (run / LOOKS_FILE).open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')},{by}\n")
    return looks(run)


def counted(run: RunDir, by: str) -> str:
    """Note one more look, or that it can't be noted, and say so in a sentence."""
    try:
        count = count_look(run, by)
    except OSError as error:
        return f"That the test images were looked at again can't be noted in {run.path} ({error.strerror})."
    return f"This was look {count} at the run's test images; choosing anything by it would flatter the result."
