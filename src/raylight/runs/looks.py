"""``looks.csv``: which commands have evaluated a run on its test images, and when.

Whatever is chosen by a further look at the test images has an optimistic result.
"""

from datetime import UTC, datetime

from raylight.runs.run_dir import RunDir

LOOKS_FILE = "looks.csv"
_HEADER = "at,by\n"


def record_test(run: RunDir, epochs: int) -> None:
    """Records the test at the end of training, the first look.

    Args:
        run: its folder.
        epochs: number of epochs that were trained; for each number, the test counts once, however often the run was resumed.
    """
    by = f"train {epochs} epochs"
    if not (run / LOOKS_FILE).is_file():
        run.write_text(LOOKS_FILE, _HEADER)
    if by not in (run / LOOKS_FILE).read_text(encoding="utf-8"):
        record_look(run, by)


def tests_of(run: RunDir) -> list[int]:
    """The number of epochs trained before each test at the end of training: several where the run was trained further."""
    lines = (run / LOOKS_FILE).read_text(encoding="utf-8").splitlines()
    return [int(by.split()[1]) for _, _, by in (line.partition(",") for line in lines) if by.startswith("train ")]


def looks(run: RunDir) -> int:
    """The number of looks at the test images of a run."""
    return max((run / LOOKS_FILE).read_text(encoding="utf-8").count("\n") - 1, 0)


def record_look(run: RunDir, by: str) -> int:
    """Records a further look; of two at the same time, both are recorded.

    Args:
        run: its folder.
        by: the command that evaluates.

    Returns:
        The number of looks so far.

    Raises:
        OSError: the file can't be written.
    """
    with (run / LOOKS_FILE).open("a", encoding="utf-8") as file:
        file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')},{by}\n")
    return looks(run)


def look_notice(run: RunDir, by: str) -> str:
    """Records a further look, if possible.

    Args:
        run: its folder.
        by: the command that evaluates.

    Returns:
        A sentence that warns against choosing anything by this look.
    """
    try:
        count = record_look(run, by)
    except OSError as error:
        return f"This look at the test images can't be recorded in {run.path} ({error.strerror})."
    return f"This was look {count} at the run's test images; if anything is chosen by it, the result is too optimistic."
