"""What was measured: a row per command in ``results.csv``, and the tables made from it."""

import csv
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from raylight.evaluation.intervals import UNDEFINED, Interval, wilson

WANTED = 2.0
"""How many times less than the fastest peer's seconds ours are to take."""


@dataclass(frozen=True)
class Result:
    """One command.

    Attributes:
        images: name of the set.
        mode: ``default`` or ``equal``.
        contender: who ran.
        version: of its package.
        turn: when the turn began; ours and the peers of one turn ran one after the other.
        wall: seconds from Enter to prompt.
        cpu: CPU seconds of all its processes.
        correct: test images classified correctly.
        n: test images.
        note: why there is no accuracy; empty if there is one.
    """

    images: str
    mode: str
    contender: str
    version: str
    turn: str
    wall: float
    cpu: float
    correct: int
    n: int
    note: str = ""


def read(file: Path) -> list[Result]:
    """Earlier results; none if there is no file."""
    if not file.is_file():
        return []
    kinds = {each.name: each.type for each in fields(Result)}
    with file.open(newline="") as stream:
        return [
            Result(**{name: kinds[name](value) for name, value in row.items()})  # type: ignore[operator]
            for row in csv.DictReader(stream)
        ]


def write(file: Path, results: Iterable[Result]) -> None:
    """Write all results, sorted."""
    with file.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [each.name for each in fields(Result)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(
            asdict(each) for each in sorted(results, key=lambda it: (it.images, it.mode, it.turn, it.contender))
        )


def forgotten(results: Sequence[Result], contenders: Set[str], works: Set[tuple[str, str]], ours: str) -> list[Result]:
    """The results without what some contenders did, and without our rows of turns in which nobody else is left.

    Args:
        results: of all turns.
        contenders: whose results are dropped.
        works: the sets with modes in which they are.
        ours: our name.
    """
    others = [
        each
        for each in results
        if each.contender != ours and not (each.contender in contenders and (each.images, each.mode) in works)
    ]
    turns = {(each.images, each.mode, each.turn) for each in others}
    return others + [
        each for each in results if each.contender == ours and (each.images, each.mode, each.turn) in turns
    ]


def last_line(log: Path) -> str:
    """The beginning of the last line that a command printed, for a cell of a table: without colours and bars.

    Args:
        log: what it printed.
    """
    lines = [line for line in re.split(r"[\r\n]+", log.read_text(errors="replace")) if line.strip()]
    return (
        re.sub(r"\x1b\[[\d;]*m|\s+(?=\s)", "", lines[-1].replace("|", ","))[:150].strip()
        if lines
        else "nothing printed"
    )


def tables(results: Sequence[Result], ours: str) -> str:
    """A table per set and mode, in Markdown.

    Args:
        results: of all turns.
        ours: the contender that others are compared with.

    Returns:
        For each contender the medians of its seconds, the median over turns of its seconds divided by ours in the same turn,
        and the mean of its accuracies with the 95 % Wilson interval of that share of the test images (one seed per turn; the
        images are the same in all turns, so that more turns don't make it narrower).
    """
    lines = []
    for images, mode in sorted({(each.images, each.mode) for each in results}):
        chosen = [each for each in results if (each.images, each.mode) == (images, mode)]
        lines += [f"\n## {images}, {mode}\n"]
        lines += ["| contender | turns | wall s | CPU s | wall ÷ ours | CPU ÷ ours | test accuracy |"]
        lines += ["| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
        names = sorted({each.contender for each in chosen}, key=lambda name: (name != ours, name))
        rows = {name: _row(name, chosen, ours) for name in names}
        lines += [row.line for row in rows.values()]
        lines += _verdict(rows, ours)
    return "\n".join(lines).strip() + "\n"


@dataclass(frozen=True)
class _Row:
    """The line of one contender, and what the verdict needs of it: none of it without a turn that both finished."""

    line: str
    wall_ratio: float | None = None
    cpu_ratio: float | None = None
    interval: Interval = UNDEFINED


def _verdict(rows: Mapping[str, _Row], ours: str) -> list[str]:
    """The fastest contender whose interval of the accuracy reaches ours, and the names of those that were less accurate."""
    accurate, less = {}, []
    for name, row in rows.items():
        if name != ours and row.wall_ratio is not None:
            if row.interval.high >= rows[ours].interval.low:
                accurate[name] = row.wall_ratio
            else:
                less.append(name)
    lines = []
    if accurate:
        fastest = min(accurate, key=lambda name: accurate[name])
        wall, cpu = accurate[fastest], rows[fastest].cpu_ratio
        verdict = "reached" if wall >= WANTED else "missed"
        seconds = f"{wall:.2f} × our wall seconds, {cpu:.2f} × our CPU seconds"
        lines += [f"\nFastest at equal accuracy: {fastest}, {seconds} (wanted {WANTED:g} in wall seconds: {verdict})."]
    if less:
        lines += [f"\nLess accurate, by intervals that don't overlap: {', '.join(less)}."]
    return lines


def _row(name: str, chosen: Sequence[Result], ours: str) -> _Row:
    """What is told of one contender."""
    finished = [each for each in chosen if each.contender == name and not each.note]
    if not finished:
        last = max((each for each in chosen if each.contender == name), key=lambda it: it.turn)
        return _Row(f"| {name} {last.version} | 0 | {last.wall:.0f} | {last.cpu:.0f} | | | {last.note} |")
    same_turn = {each.turn: each for each in chosen if each.contender == ours and not each.note}
    pairs = [(each, same_turn[each.turn]) for each in finished if each.turn in same_turn]
    wall = statistics.median(each.wall for each in finished)
    cpu = statistics.median(each.cpu for each in finished)
    wall_ratio = statistics.median(each.wall / beside.wall for each, beside in pairs) if pairs else None
    cpu_ratio = statistics.median(each.cpu / beside.cpu for each, beside in pairs) if pairs else None
    right, n = statistics.mean(each.correct for each in finished), finished[0].n
    interval = wilson(right, n)
    columns = [
        f"{name} {finished[-1].version}",
        str(len(finished)),
        f"{wall:.0f}",
        f"{cpu:.0f}",
        *("" if ratio is None else f"{ratio:.2f}" for ratio in (wall_ratio, cpu_ratio)),
        f"{right / n:.3f} ({interval.low:.3f} to {interval.high:.3f}, n = {n})",
    ]
    return _Row(f"| {' | '.join(columns)} |", wall_ratio, cpu_ratio, interval)
