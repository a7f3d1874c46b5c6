"""What a run costs besides its work: one epoch of the demo, warm, with all defaults, and without W&B, report and plots.

    python -m experiments.speed.fixed_costs [--before CHECKOUT] [--rounds 3] [--jobs 12]

Runs this checkout's ``train.py`` and, in turn with it, that of another one (``git worktree add CHECKOUT REVISION``), each from
a cache of its own that a first run has filled. Prints wall and processor seconds (children included) of the whole command, the
medians of all rounds, their ratios, and the stages of the last run. With ``--jobs`` it compares a sweep over that many seeds
with as many single commands, instead.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"defaults": [], "no W&B, report, plots": ["logger=csv", "report.enabled=false", "report.plots=false"]}


def measured(checkout: Path, settings: list[str], folder: Path) -> tuple[float, float, Path]:
    """Wall seconds, processor seconds and run folder of one command; it must succeed."""
    command = [
        sys.executable,
        str(checkout / "train.py"),
        "trainer.max_epochs=1",
        "trainer.progress=off",
        "decode=threads",
    ]
    environment = os.environ | {"PYTHONPATH": str(checkout / "src")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # users' Python keeps what it compiles
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [*command, *settings, f"cache_dir={folder / 'cache'}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    wall, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, processor, folder / done.stdout.split()[-1]


def compare_sweep(jobs: int, scratch: Path) -> None:
    """Print what a sweep over ``jobs`` seeds costs, and as many commands of one seed each."""
    print("| command | wall s | CPU s | commands / sweep, wall | CPU |\n| --- | --- | --- | --- | --- |", flush=True)
    for label, settings in COMMANDS.items():
        seeds = [f"seed={seed}" for seed in range(1, jobs + 1)]
        singles = [measured(ROOT, [*settings, seed], scratch) for seed in seeds]
        wall, processor = (sum(one[place] for one in singles) for place in (0, 1))
        swept = measured(ROOT, [*settings, "-m", f"seed=range(1,{jobs + 1})"], scratch)
        print(f"| {jobs} commands, {label} | {wall:.1f} | {processor:.1f} | | |")
        ratios = f"{wall / swept[0]:.2f} | {processor / swept[1]:.2f}"
        print(f"| a sweep of {jobs}, {label} | {swept[0]:.1f} | {swept[1]:.1f} | {ratios} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, help="another checkout, measured in turn with this one")
    parser.add_argument("--rounds", type=int, default=3, help="of each command")
    parser.add_argument("--jobs", type=int, help="compare a sweep of so many jobs with single commands")
    arguments = parser.parse_args()
    if arguments.jobs:
        with tempfile.TemporaryDirectory() as scratch:
            measured(ROOT, [], Path(scratch))
            compare_sweep(arguments.jobs, Path(scratch))
        return
    checkouts = {"now": ROOT} | ({"before": arguments.before.resolve()} if arguments.before else {})
    with tempfile.TemporaryDirectory() as scratch:
        for name in checkouts:
            Path(scratch, name).mkdir()
            measured(checkouts[name], [], Path(scratch, name))
        print("| command | revision | wall s | CPU s | CPU, of before |\n| --- | --- | --- | --- | --- |", flush=True)
        for label, settings in COMMANDS.items():
            rounds = [
                {name: measured(checkout, settings, Path(scratch, name)) for name, checkout in checkouts.items()}
                for _ in range(arguments.rounds)
            ]
            for name in checkouts:
                wall, processor = (median(one[name][place] for one in rounds) for place in (0, 1))
                ratio = median(one[name][1] / one[list(checkouts)[-1]][1] for one in rounds)
                print(f"| {label} | {name} | {wall:.2f} | {processor:.2f} | {ratio:.2f} |", flush=True)
            wall, processor, run = rounds[-1]["now"]
            cost = json.loads((run / "metrics.json").read_text())["cost"]
            print(f"<!-- {label}: stages {sum(cost['seconds'].values()) / wall:.3f} of {wall:.2f} s: {cost} -->")


if __name__ == "__main__":
    main()
