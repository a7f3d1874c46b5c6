"""Would the tests notice? Faults are put into the code one at a time, and the tests that run the line have to fail.

Usage: ``make mutation`` (``ARGS="--mutants 200 --seed 1"``); ``--again`` judges the survivors once more after tests were
written. Stopped and started again, it goes on; the source judged is the source as it was at the first start.
"""

import argparse
import compileall
import csv
import hashlib
import json
import os
import py_compile
import random
import re
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from experiments.mutation.mutants import Mutant, mutants
from experiments.mutation.runner import in_child, judge, observe, preload

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
JUDGED = HERE / "judged.csv"
"""Survivors that were looked at, by hand: equivalent (nobody can see a difference), cosmetic, elsewhere (what notices isn't
run here), or a gap; with the reason."""
PLACE = ("file", "source", "was", "becomes")
"""What tells a fault from others in ``judged.csv``, whatever else changes in its file."""
SOURCES = [
    *(f"src/raylight/{room}/**/*.py" for room in ("evaluation", "models", "config", "data/splits", "training")),
    *(f"src/raylight/report/{files}.py" for files in ("results", "facts", "figures/*")),
]
ROOMS = ("evaluation", "models", "config", "data/splits", "training", "report", "comparison")
TESTS = [*(f"tests/{room}/**/test_*.py" for room in ROOMS), "tests/test_doctests.py"]
SLOW = 5.0
"""Tests that take longer, in seconds, are run only for lines that no other test runs."""
BUDGET = 12.0
"""Seconds of tests for one mutant, as the unharmed code needs them; the fastest are taken first."""

Lines = dict[str, dict[int, set[str]]]
Seconds = dict[str, float]


def prepare(work: Path, jobs: int) -> list[Path]:
    """A copy of the project for each job: the source as it was at the first start, the tests as they are now."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    kept, trees = work / "source", [work / f"tree{job}" for job in range(jobs)]
    fresh = not kept.exists()
    shutil.rmtree(kept / "tests", ignore_errors=True)
    for name in names:
        if (ROOT / name).is_file() and (fresh or name.startswith("tests/")):
            (kept / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, kept / name)
    # By hash: a fault may leave a file's size and second of change as they were.
    compileall.compile_dir(kept / "src", quiet=1, invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)
    for tree in trees:  # anew, since a study that was killed leaves its fault in the tree
        shutil.rmtree(tree, ignore_errors=True)
        shutil.copytree(kept, tree)
    return trees


def in_parallel(work: Callable[[int], None], jobs: int) -> None:
    """Run ``work(0)``, ``work(1)``, ... in processes of their own."""
    children = []
    for job in range(jobs):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                work(job)
                code = 0
            finally:
                sys.stdout.flush()
                os._exit(code)
        children.append(child)
    if any(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children):
        sys.exit("A part of the study failed; see above.")


def seen(tree: Path, work: Path, file: str) -> Path:
    """Where it is kept what the tests of a file run; another place for each state of the file."""
    return (
        work / "seen" / f"{file.replace('/', '.')}.{hashlib.sha256((tree / file).read_bytes()).hexdigest()[:12]}.json"
    )


def look(trees: list[Path], work: Path) -> None:
    """See what the tests of each file run, where that isn't known yet."""
    (work / "seen").mkdir(exist_ok=True)
    new = [file for file in _test_files(trees[0]) if not seen(trees[0], work, file).exists()]

    def part(job: int) -> None:
        for file in new[job :: len(trees)]:
            started, out = time.monotonic(), seen(trees[job], work, file)
            code = in_child(lambda file=file, out=out: observe(file, out), trees[job], work / f"look{job}.log", 900)
            print(f"{file}: exit code {code}, {time.monotonic() - started:.0f} s", flush=True)

    in_parallel(part, len(trees))


def _test_files(tree: Path) -> list[str]:
    return [str(path.relative_to(tree)) for pattern in TESTS for path in sorted(tree.glob(pattern))]


def covering(tree: Path, work: Path) -> tuple[Lines, Seconds]:
    """Which tests run each line; and how long each test takes."""
    lines: Lines = defaultdict(lambda: defaultdict(set))
    seconds: Seconds = {}
    for file in _test_files(tree):
        if not seen(tree, work, file).exists():
            continue
        found = json.loads(seen(tree, work, file).read_text())
        tests = {name: test for name, test in found["tests"].items() if test["passed"]}
        seconds |= {name: test["seconds"] for name, test in tests.items()}
        for context, files in found["lines"].items():
            fixture = context.removeprefix("fixture ")
            if not context:  # lines that an import runs: every test that runs the file, or imports it at its top
                users = set()
            elif context in found["tests"]:
                users = {context} & tests.keys()
            else:
                users = {name for name, test in tests.items() if fixture in test["fixtures"]}
            for source, numbers in files.items():
                for number in numbers:
                    lines[source][number] |= users
        for source in found["lines"].get("", {}):
            module = source.removeprefix("src/").removesuffix(".py").replace("/", ".")
            if module in (tree / file).read_text():
                lines[source][0] |= tests.keys()
    for numbers in lines.values():
        numbers[0] |= set().union(*numbers.values())
    return lines, seconds


def chosen(mutant: Mutant, lines: Lines, seconds: Seconds) -> list[str]:
    """The tests to run: those that run the line (for what an import runs, those that use the file), the fastest first."""
    numbers = lines[mutant.file]
    if "/training/" in mutant.file and not numbers[mutant.line]:  # runs in processes that these tests start
        whole = [test for test in numbers[0] if test.startswith("tests/training/distributed/")]
        return sorted(whole, key=lambda test: seconds[test])
    tests = numbers[mutant.line] or (numbers[0] if mutant.line in numbers else set())
    tests = {test for test in tests if seconds[test] < SLOW} or tests
    own = f"test_{Path(mutant.file).stem}.py"
    ordered = sorted(tests, key=lambda test: (own not in test, seconds[test]))
    spent, taken = 0.0, []
    for test in ordered:
        spent += seconds[test]
        if taken and spent > BUDGET:
            break
        taken.append(test)
    return taken


def verdict(mutant: Mutant, tests: list[str], tree: Path, log: Path, seconds: Seconds) -> tuple[str, str]:
    """``killed``, ``killed (time)``, ``survived``, or ``no test``; and the test, or file of tests, that failed.

    Out of time, or ended without naming a test, the tests run once more without the fault: where they pass, it was the fault.
    """
    if not tests:
        return "no test", ""
    limit = 120 + 10 * sum(seconds[test] for test in tests)
    original = (tree / mutant.file).read_bytes()
    (tree / mutant.file).write_bytes(mutant.source(original))
    try:
        code = in_child(lambda: judge(tests), tree, log, limit)
    finally:
        (tree / mutant.file).write_bytes(original)
    if code == 0:
        return "survived", ""
    said = log.read_text(errors="replace")
    late = code is None or "Timeout (>" in said
    failed = re.search(r"^(?:FAILED|ERROR) (\S+?\.py(?:::.+?)?)(?: - |$)", said, re.MULTILINE)
    if failed and not late:
        return "killed", failed[1]
    if (code := in_child(lambda: judge(tests), tree, log, limit)) not in (0, None):
        sys.exit(f"The tests of {mutant.file}:{mutant.line} fail without a fault, too; see {log}.")
    return ("survived" if code is None else "killed (time)" if late else "killed"), ""


def main() -> None:
    """Draw, judge and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true", help="judge the survivors once more")
    parser.add_argument("--write", action="store_true", help="only write the tables of what has been judged so far")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--work", type=Path, default=ROOT / "outputs" / "mutation")
    arguments = parser.parse_args()
    work = arguments.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    trees = [work / "source"] if arguments.write else prepare(work, arguments.jobs)
    files = [str(path.relative_to(trees[0])) for pattern in SOURCES for path in sorted(trees[0].glob(pattern))]
    places = [mutant for file in files for mutant in mutants(trees[0], file)]
    drawn = random.Random(arguments.seed).sample(places, arguments.mutants)
    if arguments.write:
        write_tables(work / "results.csv", drawn, trees[0], len(places), arguments.seed)
        return
    preload()
    look(trees, work)
    lines, seconds = covering(trees[0], work)
    table = work / "results.csv"
    done = {row["key"]: row for row in _rows(table)}
    open_ = [
        m for m in drawn if m.key not in done or (arguments.again and not done[m.key]["verdict"].startswith("killed"))
    ]
    print(f"{len(places)} faults are possible, {len(drawn)} drawn, {len(open_)} to judge", flush=True)

    def part(job: int) -> None:
        for mutant in open_[job :: len(trees)]:
            tests, started = chosen(mutant, lines, seconds), time.monotonic()
            result, killer = verdict(mutant, tests, trees[job], work / f"mutant{job}.log", seconds)
            took = time.monotonic() - started
            print(
                f"{result:14} {took:5.1f} s {len(tests):4} tests  {mutant.file}:{mutant.line} {mutant.becomes!r:.80}",
                flush=True,
            )
            m = mutant
            _append(table, m.key, m.file, m.line, m.kind, m.was, m.becomes, result, len(tests), f"{took:.1f}", killer)

    _append(table)
    in_parallel(part, len(trees))
    killers = sorted({row["killer"] for row in _rows(table)} & seconds.keys())
    if (
        in_child(
            lambda: judge(killers), trees[0], work / "control.log", 60 + 5 * sum(seconds[test] for test in killers)
        )
        != 0
    ):
        sys.exit(f"Tests that killed fail on the unharmed code, too; see {work / 'control.log'}.")
    write_tables(table, drawn, trees[0], len(places), arguments.seed)


def _rows(table: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(table.open())) if table.exists() else []


COLUMNS = ["key", "file", "line", "kind", "was", "becomes", "verdict", "tests", "seconds", "killer"]


def _append(table: Path, *values: Any) -> None:
    """Write a row, or the header where there is none yet."""
    if values or not table.exists():
        with table.open("a", newline="") as file:
            csv.writer(file).writerow(values or COLUMNS)


def write_tables(table: Path, drawn: list[Mutant], tree: Path, places: int, seed: int) -> None:
    """``results.md`` and ``results.csv`` of a draw: the share killed by room, and the survivors with what was judged of them.

    Those not judged by any test yet are left out of the shares, and counted.
    """
    rows = {row["key"]: row for row in _rows(table)}
    lines = {file: (tree / file).read_text().splitlines() for file in {mutant.file for mutant in drawn}}
    judged = {tuple(row[name] for name in PLACE): row for row in csv.DictReader(JUDGED.open())}
    found: list[dict[str, str]] = []
    for mutant in sorted((m for m in drawn if m.key in rows), key=lambda m: (m.file, m.start)):
        source, result = lines[mutant.file][mutant.line - 1].strip(), rows[mutant.key]["verdict"]
        one = {"file": mutant.file.removeprefix("src/raylight/"), "source": source}
        one |= {"was": " ".join(mutant.was.split()), "becomes": " ".join(mutant.becomes.split())}
        note = judged.get(tuple(one[name] for name in PLACE), {"judgement": "not looked at", "reason": ""})
        note = {"judgement": "", "reason": ""} if result.startswith("killed") else note
        one |= {"line": str(mutant.line), "kind": mutant.kind, "verdict": result}
        found.append(one | {name: note[name] for name in ("judgement", "reason")})
    with (HERE / f"results_seed{seed}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
    text = [
        f"# Seed {seed}",
        "",
        f"{places:,} faults are possible; {len(drawn)} drawn, the first {len(found)} judged.",
        "",
    ]
    text += [
        "| room | faults | killed | | of them by time | survivors that nobody could notice |",
        "|---|---|---|---|---|---|",
    ]
    rooms = ["data/splits" if one["file"].startswith("data") else one["file"].partition("/")[0] for one in found]
    for room in (*sorted(set(rooms)), "all"):
        of_room = [one for one, its in zip(found, rooms, strict=True) if room in (its, "all")]
        killed = [one["verdict"] for one in of_room if one["verdict"].startswith("killed")]
        same = sum(one["judgement"] == "equivalent" for one in of_room)
        share = f"{len(killed) / len(of_room):.0%}"
        text.append(f"| {room} | {len(of_room)} | {len(killed)} | {share} | {killed.count('killed (time)')} | {same} |")
    text += ["", "Survivors:", ""]
    for one in found:
        if not one["verdict"].startswith("killed"):
            of_line = f" in `{one['source'][:90]}`" if one["was"] != one["source"] else ""
            seen = " (no test runs it)" if one["verdict"] == "no test" else ""
            change = f"`{one['was'][:70]}` → `{one['becomes'][:70]}`{of_line}{seen}"
            text.append(f"- `{one['file']}:{one['line']}` {change}: {one['judgement']}. {one['reason']}".rstrip())
    (HERE / f"results_seed{seed}.md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
