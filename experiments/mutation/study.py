"""How many small faults do the tests find? Mutants drawn at random, each run against the tests of its module.

``make mutation`` draws 150 mutants of the code that numbers come from, runs the tests that mirror the mutated module, then
those of its room, then those of whole trainings, and stops at the first that fails. A mutant that no test notices has survived:
it is listed, to be judged by a person (it may be equivalent: no input shows a difference).
"""

import argparse
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from experiments.mutation.mutants import Mutant, mutants

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "raylight"

SCOPE = ("training", "evaluation", "compare", "models", "config", "data/split.py", "data/augment.py")
"""What is mutated: the rooms whose mistakes would be wrong numbers."""

LAST = ("tests/pipeline", "tests/commands/test_train.py")
"""Tests of whole trainings, for mutants that their room's tests let through."""

TIMEOUT = 300.0
"""Seconds after which a mutant counts as found: it never ends."""

PRELOADED = ["pandas", "pytorch_lightning", "pytest", "scipy.stats", "sklearn.metrics", "torchmetrics", "torchvision"]


@dataclass(frozen=True)
class Verdict:
    """What became of a mutant.

    Attributes:
        mutant: the mutant.
        found_by: the tests that failed; None when it survived.
        seconds: that it took.
    """

    mutant: Mutant
    found_by: str | None
    seconds: float


def drawn(count: int, seed: int) -> list[Mutant]:
    """Mutants drawn at random, all places alike.

    Args:
        count: how many.
        seed: of the draw.
    """
    files = [
        path
        for name in SCOPE
        for path in ([SOURCE / name] if name.endswith(".py") else sorted((SOURCE / name).rglob("*.py")))
    ]
    all_of_them = [mutant for path in files for mutant in mutants(path.relative_to(SOURCE), path.read_text())]
    return sorted(
        random.Random(seed).sample(all_of_them, min(count, len(all_of_them))), key=lambda m: (m.module, m.line)
    )


def judged(mutant: Mutant) -> Verdict:
    """Run tests against a mutant until one fails."""
    begin = time.perf_counter()
    room, name = mutant.module.parent, mutant.module.name
    stages = [[f"tests/{room}/test_{name}"], [f"tests/{room}"], list(LAST)]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "src", Path(folder, "src"), ignore=shutil.ignore_patterns("__pycache__"))
        Path(folder, "src", "raylight", mutant.module).write_text(mutant.source)
        for stage in stages:
            present = [test for test in stage if (ROOT / test).exists()]
            if present and _fails(Path(folder), present):
                return Verdict(mutant, present[0], time.perf_counter() - begin)
    return Verdict(mutant, None, time.perf_counter() - begin)


def _fails(folder: Path, tests: list[str]) -> bool:
    process = multiprocessing.get_context("forkserver").Process(target=_run_tests, args=(folder, tests))
    process.start()
    process.join(TIMEOUT)
    if process.is_alive():
        process.kill()
        process.join()
        return True
    return process.exitcode != 0


def _run_tests(folder: Path, tests: list[str]) -> None:
    """In a process that has imported the libraries, but nothing of ours."""
    import pytest

    os.setpgrp()
    os.chdir(ROOT)
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    sys.path.insert(0, str(folder / "src"))
    os.environ["PYTHONPATH"] = str(folder / "src")
    sys.dont_write_bytecode = True
    options = ["-x", "-q", "-n", "0", "-p", "no:cacheprovider", f"--basetemp={folder / 'tests'}"]
    os._exit(int(pytest.main([*options, *tests])))


def main() -> None:
    """Draw, run, print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=150)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", default="", help="modules whose path begins like this")
    settings = parser.parse_args()
    multiprocessing.get_context("forkserver").set_forkserver_preload(PRELOADED)
    chosen = [m for m in drawn(settings.count, settings.seed) if str(m.module).startswith(settings.only)]
    verdicts = []
    with ThreadPoolExecutor(settings.processes) as pool:
        for verdict in pool.map(judged, chosen):
            verdicts.append(verdict)
            mutant = verdict.mutant
            state = f"found by {verdict.found_by}" if verdict.found_by else "SURVIVED"
            print(
                f"{mutant.module}:{mutant.line} {state} ({verdict.seconds:.0f} s): {mutant.before} -> {mutant.after}",
                flush=True,
            )
    rooms = sorted({str(verdict.mutant.module.parent) for verdict in verdicts})
    print("\n| room | mutants | found | share |\n| --- | --- | --- | --- |")
    for room in (*rooms, "all"):
        of_room = [verdict for verdict in verdicts if room in ("all", str(verdict.mutant.module.parent))]
        found = sum(verdict.found_by is not None for verdict in of_room)
        print(f"| {room} | {len(of_room)} | {found} | {found / max(len(of_room), 1):.0%} |")
    print("\n| survivor | change |\n| --- | --- |")
    for verdict in verdicts:
        if verdict.found_by is None:
            mutant = verdict.mutant
            change = f"`{_short(mutant.before)}` → `{_short(mutant.after)}`".replace("|", "\\|")
            print(f"| `{mutant.module}:{mutant.line}` | {change} |")


def _short(code: str) -> str:
    line = " ".join(code.split())
    return line if len(line) <= 90 else line[:87] + "..."


if __name__ == "__main__":
    main()
