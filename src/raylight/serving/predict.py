"""``raylight predict``: the class of any number of images, a line per image.

Blocks go from the decoder through the network to the table, so that memory stays constant. Unreadable files are named with
the reason and skipped. Leaves out metrics, which need labels (``evaluate``).
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from raylight.data.names import is_image, single_line
from raylight.data.sources.ignored import IgnoredEntry, group_ignored, not_an_image
from raylight.serving.predictor import NOT_SURE, UNLIKE, Predictor
from raylight.serving.versions.opening import RUNS_OWN, Version
from raylight.storage.atomic import atomic_file
from raylight.storage.tables import csv_rows

if TYPE_CHECKING:
    import pandas as pd

Row = tuple[Path, str, Float[np.ndarray, " class"], str]
"""An image, its predicted class, each class's probability, and why it gets no class; class or reason is empty."""


def predict_images(run: Path, images: Sequence[Path], out: Path | None, version: Version = RUNS_OWN) -> int:
    """Predict files and folders (with all that is below them).

    The columns are path, predicted, and ``p_<class>`` for each class, calibrated; of a run with ``decision.abstain`` or
    ``decision.unknown``, predicted is empty for refused images, and a last column ``refused`` gives the reason. On a terminal
    they are printed as a table, elsewhere as CSV; with ``out`` they are written there as CSV, atomically.

    Args:
        run: a finished run's folder.
        images: image files of any name, and folders, whose files with an image's extension are taken.
        out: CSV file to write or replace.
        version: how the run's network is computed.

    Returns:
        0; 1 when a path doesn't exist, a folder has no images or a file isn't a usable image. Each is named on
        standard error, and the others are still predicted.

    Raises:
        RaylightError: the run can't be used.
        OSError: ``out`` can't be written.
    """
    predictor = version.open(run)
    found = find_files(images)
    for kind in group_ignored(found.ignored, ()):
        sys.stderr.write(f"{single_line(kind.sentence)}\n")
    for path, problem in found.problems:
        sys.stderr.write(f"{single_line(path)}: {problem}\n")
    failed = len(found.problems)
    unlike = 0
    with _destination(out, predictor) as write:
        for rows, failures in _predicted(predictor, found.files):
            for path, reason in failures:
                sys.stderr.write(f"{single_line(path)}: {reason}\n")
            failed += len(failures)
            unlike += sum(refused == UNLIKE for *_, refused in rows)
            write(rows)
    if unlike:
        sys.stderr.write(f"{unlike} of {len(found.files)} images are unlike all training images.\n")
    if out is not None:
        predicted = len(found.files) - (failed - len(found.problems))
        sys.stdout.write(f"{predicted} predicted, {failed} failed: {single_line(out)}\n")
    return 1 if failed else 0


def predictions_of(run: Path, images: Sequence[Path]) -> "pd.DataFrame":
    """Predict files and folders, as ``predict_images`` does, into a table.

    Returns:
        A row per file: path, predicted (None where no class is given), ``p_<class>`` of each class, and reason why
        none is given; for an unusable file only the reason. Arguments that don't exist come first, then files in order.

    Raises:
        RaylightError: the run can't be used.
    """
    import pandas as pd

    predictor = Predictor.open(run)
    found = find_files(images)
    columns = ["path", "predicted", *(f"p_{name}" for name in predictor.class_names), "reason"]
    cells: dict[Path, list[Any]] = {}
    for rows, failures in _predicted(predictor, found.files):
        cells |= {path: [given or None, *row.tolist(), refused or None] for path, given, row, refused in rows}
        cells |= {path: [None] * (len(columns) - 2) + [reason] for path, reason in failures}
    lost = [[str(path), *[None] * (len(columns) - 2), problem] for path, problem in found.problems]
    return pd.DataFrame([*lost, *([str(path), *cells[path]] for path in found.files)], columns=columns)


def _predicted(predictor: Predictor, files: Sequence[Path]) -> Iterator[tuple[list[Row], list[tuple[Path, str]]]]:
    """Rows, and path and reason of each file that can't be used, block by block, in order."""
    for block in predictor.predict_files(files):
        good = iter(zip(predictor.decide(block.probabilities), block.probabilities, block.refused, strict=True))
        rows: list[Row] = []
        failures: list[tuple[Path, str]] = []
        for position, reason in zip(block.positions, block.reasons, strict=True):
            if reason is None:
                decided, probabilities, refused = next(good)
                given = "" if refused else predictor.class_names[decided]
                rows.append((files[position], given, probabilities, refused or ""))
            else:
                failures.append((files[position], reason))
        yield rows, failures


@dataclass(frozen=True)
class FoundFiles:
    """The files behind paths.

    Attributes:
        files: to predict, in order.
        problems: path and reason of each path without files.
        ignored: files below folders that don't look like images.
    """

    files: list[Path]
    problems: list[tuple[Path, str]]
    ignored: list[IgnoredEntry]


def find_files(images: Sequence[Path]) -> FoundFiles:
    """Collect the files among paths, and the images below folders."""
    files: list[Path] = []
    problems: list[tuple[Path, str]] = []
    ignored: list[IgnoredEntry] = []
    for path in images:
        if path.is_dir():
            below = list(_images_below(path, problems, ignored))
            if not below:
                problems.append((path, "no image files in this folder"))
            files += below
        elif path.exists():
            files.append(path)
        else:
            problems.append((path, "there is no such file or folder"))
    return FoundFiles(files, problems, ignored)


def _images_below(folder: Path, problems: list[tuple[Path, str]], ignored: list[IgnoredEntry]) -> Iterator[Path]:
    """Image files at any depth, by name; links to folders aren't followed, since they may form cycles."""

    def unreadable(error: OSError) -> None:
        problems.append((Path(error.filename), f"can't be read: {error.strerror}"))

    for parent, folders, names in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            if is_image(name):
                yield Path(parent, name)
            else:
                ignored.append(not_an_image(str(Path(parent, name))))


@contextmanager
def _destination(out: Path | None, predictor: Predictor) -> Iterator[Callable[[Sequence[Row]], None]]:
    """Write rows to a file, as a table to a terminal, or as CSV to standard output."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        with (
            atomic_file(out) as temporary,
            temporary.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file,
        ):
            yield _csv_rows(file, predictor.class_names, predictor.refuses)
    elif sys.stdout.isatty():
        yield _table_rows(predictor.class_names)
    else:
        if hasattr(sys.stdout, "reconfigure"):
            # File names on Linux are bytes, and needn't be valid UTF-8.
            sys.stdout.reconfigure(encoding="utf-8", errors="surrogateescape")
        yield _csv_rows(sys.stdout, predictor.class_names, predictor.refuses)


def _csv_rows(file: IO[str], class_names: Sequence[str], refuses: bool) -> Callable[[Sequence[Row]], None]:
    write_row = csv_rows(file)
    write_row(["path", "predicted", *(f"p_{name}" for name in class_names), *(["refused"] if refuses else [])])

    def write(rows: Sequence[Row]) -> None:
        for path, predicted, probabilities, refused in rows:
            write_row([str(path), predicted, *map(repr, probabilities.tolist()), *([refused] if refuses else [])])
        file.flush()

    return write


def _table_rows(class_names: Sequence[str]) -> Callable[[Sequence[Row]], None]:
    """Write Rich tables, one per block, with equal column widths, so that together they look like one."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console, widest = Console(), max(map(len, (*class_names, "predicted", NOT_SURE, UNLIKE)))
    headed = False

    def write(rows: Sequence[Row]) -> None:
        nonlocal headed
        if not rows:
            return
        table: Any = Table(show_header=not headed, box=None, pad_edge=False)
        table.add_column("predicted", width=widest, no_wrap=True)
        for name in class_names:
            table.add_column(Text(f"p_{name}"), width=max(len(name) + 2, 6), justify="right", no_wrap=True)
        table.add_column("path", overflow="fold")
        for path, predicted, probabilities, refused in rows:
            table.add_row(Text(predicted or refused), *(f"{p:.4f}" for p in probabilities), Text(single_line(path)))
        console.print(table)
        headed = True

    return write
