"""Random kills of random runs, sweeps and cache builds, and what became of them.

    make soak ARGS="--minutes 10 --seed 1"

First every fault of ``faults.py``. Then, until the time is up: a random command is stopped at a random moment by a random
signal, as often as it happens, and resumed; what it ends with is compared with a run that was never stopped. Counted, and
expected to be none: results that differ, processes without a parent, Ray sessions, temporary files. The tables in
README.md are written by this command.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from experiments.reliability import faults
from experiments.reliability.commands import (
    FINETUNING,
    MARK,
    ROOT,
    TINY,
    Commands,
    changed,
    differences,
    result_of,
    unfinished_files,
)
from experiments.reliability.tables import replace_table

SIGNALS = {
    "SIGKILL": (signal.SIGKILL,),
    "SIGTERM": (signal.SIGTERM,),
    "Ctrl-C": (signal.SIGINT,),
    "Ctrl-C twice": (signal.SIGINT, signal.SIGINT),
}
LONGEST = 20 * 60.0
"""Seconds that all of it may take."""

LAST = 200.0
"""Seconds that the scenario under way and the last look take."""

SETTLING = 20.0
"""Seconds within which a killed command's children must be gone."""

RECIPES: dict[str, tuple[str, ...]] = {
    **FINETUNING,
    "averaged weights, warm-up": ("trainer.averaging=ema", "scheduler=warmup_cosine"),
    "early stopping, bf16": ("trainer.patience=2", "trainer.precision=bf16", "optimizer=sgd"),
    "W&B, report": ("logger=wandb", "report.enabled=true", "report.plots=true"),
    "Ray": ("decode=ray", "ray.object_store_gb=0.1"),
}
"""What is run; as in ``FINETUNING``, WEIGHTS stands for a file of weights."""

BUILD = """
import hashlib, sys
from pathlib import Path
from raylight.config.schema import DataConfig
from raylight.data.decode.blocks import Engine
from raylight.data.cache import cached_images
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import build_index
from raylight.data.sources.source import find_images
cache_dir = Path(sys.argv[1])
source = find_images(DataConfig(kind="demo"), cache_dir)
index = build_index(source, cache_dir, 2)
print("indexed", flush=True)
cache = cached_images(index, DecodeSpec(96, "crop"), Engine("threads"), cache_dir, lambda *_: None)
print(hashlib.sha256(cache.pixels.tobytes()).hexdigest(), flush=True)
"""
"""Draws the demo images, indexes and decodes them; its last line is the hash of all pixels."""


class Soak:
    """A session of random kills."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.random = np.random.default_rng(seed)
        self.counts: Counter[str] = Counter()
        self.kills: Counter[tuple[str, str, str, str]] = Counter()
        self.faults: list[str] = []
        self.temporary = folder / "t"
        self.temporary.mkdir()
        self.mark = folder.name
        self.cache = folder / "cache"
        self.references: dict[tuple[str, int], Any] = {}
        self.seconds: dict[str, float] = {}
        self.number = 0
        first = self.commands("weights")
        code, output = first.run(*TINY, "trainer.max_epochs=1")
        if code:
            raise RuntimeError(output)
        self.weights = first.runs()[0] / "model.safetensors"

    def commands(self, name: str, cache: Path | None = None) -> Commands:
        """Commands in a new folder."""
        self.number += 1
        folder = self.folder / f"{self.number:03}-{name.partition(',')[0].replace(' ', '_')}"
        folder.mkdir()
        return Commands(folder, cache or self.cache, self.mark, {"TMPDIR": str(self.temporary)})

    def words(self, recipe: str, seed: int = 1) -> list[str]:
        """The command line of a recipe."""
        return changed(TINY, *(word.replace("WEIGHTS", str(self.weights)) for word in RECIPES[recipe]), f"seed={seed}")

    def reference(self, recipe: str, seed: int = 1) -> Any:
        """The result of a run that nobody stopped."""
        if (recipe, seed) not in self.references:
            commands = self.commands(f"reference-{recipe}")
            begin = time.monotonic()
            code, output = commands.run(*self.words(recipe, seed))
            if code:
                raise RuntimeError(output)
            self.seconds[recipe] = time.monotonic() - begin
            self.references[recipe, seed] = result_of(commands.runs()[0])
        return self.references[recipe, seed]

    def kill_a_run(self) -> None:
        """A run is stopped, resumed, perhaps stopped again, and ends with the reference's result."""
        recipe = str(self.random.choice(list(RECIPES)))
        expected = self.reference(recipe)
        fresh = self.folder / f"cache-{self.number}" if self.random.random() < 0.4 else None
        commands = self.commands(recipe, fresh)
        words = self.words(recipe)
        ended = self._stopped(commands, words, recipe, self.seconds[recipe])
        while not ended:
            run = self._resumable(commands)
            if run is None:
                next_words = words
            else:
                next_words = ["resume", str(run)] if self.random.random() < 0.5 else [f"run={run}"]
                self.counts["resumptions"] += 1
            if self.random.random() < 0.35:
                ended = self._stopped(commands, next_words, recipe, self.seconds[recipe])
            else:
                code, output = commands.run(*next_words)
                ended = True
                if code:
                    self.fault(f"{recipe}: exit code {code} after resumption: {output[-600:]}")
        run = self._resumable(commands)
        if run is None:
            self.fault(f"{recipe}: no run at the end")
            return
        self._compare(recipe, run, expected)
        if recipe.startswith("W&B"):
            ids = {path.name.rpartition("-")[2] for path in run.glob("wandb/offline-run-*")}
            if len(ids) != 1:
                self.fault(f"W&B runs {sorted(ids)} of one run")
        self._settle(commands)
        self._tidy(commands.folder, *([fresh] if fresh else []))

    def kill_a_sweep(self) -> None:
        """A sweep of two seeds is stopped and goes on by its folder."""
        expected = {seed: self.reference("scratch", seed) for seed in (1, 2)}
        commands = self.commands("sweep")
        words = ["-m", *changed(self.words("scratch"), "seed=1,2")]
        ended = self._stopped(commands, words, "sweep", 1.5 * self.seconds["scratch"])
        while not ended:
            sweeps = [path.parent for path in commands.folder.glob("outputs/sweeps/*/multirun.yaml")]
            if sweeps:
                self.counts["resumptions"] += 1
            code, output = commands.run(*([f"resume={sweeps[0]}"] if sweeps else words))
            ended = True
            if code:
                self.fault(f"sweep: exit code {code} after resumption: {output[-600:]}")
        finished: dict[int, Path] = {}
        for path in commands.folder.glob("outputs/sweeps/*/*/status.json"):
            if path.stat().st_size and json.loads(path.read_text())["state"] == "finished":
                overrides = json.loads((path.parent / "overrides.json").read_text())
                finished[int(next(word for word in overrides if word.startswith("seed="))[5:])] = path.parent
        for seed, result in expected.items():
            if seed in finished:
                self._compare(f"sweep, seed {seed}", finished[seed], result)
            else:
                self.fault(f"sweep: no finished run of seed {seed}")
        self._settle(commands)
        self._tidy(commands.folder)

    def kill_a_builder(self) -> None:
        """Three processes want one cache; one is killed, the others get it, and it is the right one."""
        cache = self.folder / f"built-{self.number}"
        commands = self.commands("builders", cache)
        environment = {**os.environ, MARK: self.mark, "TMPDIR": str(self.temporary)}
        builders = [
            subprocess.Popen(
                [sys.executable, "-c", BUILD, str(cache)], stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT
            )
            for _ in range(3)
        ]
        time.sleep(float(self.random.uniform(1.0, 5.0)))
        victim = builders[int(self.random.integers(3))]
        if victim.poll() is None:
            victim.kill()
            self.counts["kills"] += 1
            self.kills["cache build", "SIGKILL", "building", ""] += 1
        hashes = [builder.communicate(timeout=600)[0].split()[-1] for builder in builders if builder is not victim]
        if ("pixels", 0) not in self.references:
            alone = self.folder / "built-alone"
            done = subprocess.run(
                [sys.executable, "-c", BUILD, str(alone)],
                capture_output=True,
                text=True,
                env=environment,
                cwd=ROOT,
                check=True,
            )
            self.references["pixels", 0] = done.stdout.split()[-1]
        for found in hashes:
            self.counts["results compared"] += 1
            if found != self.references["pixels", 0]:
                self.counts["mismatches"] += 1
                self.fault(f"cache build: pixels {found[:12]}")
        self._settle(commands)
        self._tidy(cache)

    def _stopped(self, commands: Commands, words: list[str], what: str, seconds: float) -> bool:
        """Starts a command and stops it at a random moment; true when it had ended before."""
        process = commands.start(*words)
        time.sleep(float(self.random.uniform(0.3, 1.0) * seconds))
        name = str(self.random.choice(list(SIGNALS)))
        stage = self._stage(commands)
        if process.poll() is not None:
            output = process.communicate()[0]
            if process.returncode:
                self.fault(f"{what}: exit code {process.returncode} untouched: {output[-600:]}")
            return True
        for signum in SIGNALS[name]:
            process.send_signal(signum)
            time.sleep(0.02)
        output, _ = process.communicate(timeout=300)
        code = process.returncode
        self.counts["kills"] += 1
        if code == 0:
            self.kills[what, name, stage, "had ended"] += 1
            return True
        outside = stage in ("before the run", "after the end")
        allowed = {
            "SIGKILL": {-9},
            "SIGTERM": {143} | ({-15} if outside else set()),
            "Ctrl-C": {130} | ({-2, 1} if outside else set()),
            "Ctrl-C twice": {130, -2} | ({-2, 1} if outside else set()),
        }[name]
        if code not in allowed:
            self.fault(f"{what}: {name} while {stage} ended with exit code {code}: {output[-600:]}")
        self.kills[what, name, stage, self._state(commands)] += 1
        return False

    def _stage(self, commands: Commands) -> str:
        stages, ended = [], False
        for path in commands.folder.glob("outputs/**/status.json"):
            try:
                status = json.loads(path.read_text())
            except ValueError:
                continue
            ended = ended or status["state"] == "finished"
            if status["state"] == "running":
                stages.append(status["stage"])
        return str(stages[-1]) if stages else "after the end" if ended else "before the run"

    def _state(self, commands: Commands) -> str:
        """What ``state_of`` says of a run that is certainly not running any more."""
        from raylight.runs.run_dir import RunDir, state_of

        states = [
            state_of(RunDir(path.parent))
            for path in commands.folder.glob("outputs/**/status.json")
            if path.stat().st_size
        ]
        if "running" in states:
            self.fault(f"{commands.folder.name}: a killed run is said to be running")
        return states[-1] if states else "no run yet"

    @staticmethod
    def _resumable(commands: Commands) -> Path | None:
        whole = [
            run for run in commands.runs() if (run / "config.yaml").is_file() and (run / "status.json").stat().st_size
        ]
        return whole[-1] if whole else None

    def _compare(self, what: str, run: Path, expected: Any) -> None:
        self.counts["results compared"] += 1
        try:
            other = differences(result_of(run), expected)
        except OSError as error:
            other = [str(error)]
        if other:
            self.counts["mismatches"] += 1
            self.fault(f"{what}: {', '.join(other)} differ ({run})")

    def fault(self, text: str) -> None:
        """Counts and tells what should not have been."""
        self.counts["faults"] += 1
        self.faults.append(text)
        print(f"FAULT {text}", flush=True)

    def _ours(self) -> list[psutil.Process]:
        """Processes that a command of ours started and that still live."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.pid != os.getpid() and process.environ().get(MARK) == self.mark:
                    found.append(process)
            except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
                continue
        return found

    def _settle(self, commands: Commands) -> None:
        """Counts processes that outlive their command, and ends them."""
        deadline = time.monotonic() + SETTLING
        while (left := self._ours()) and time.monotonic() < deadline:
            time.sleep(0.5)
        for process in left:
            self.counts["orphaned processes"] += 1
            self.fault(f"{commands.folder.name}: {' '.join(process.cmdline())[:120]} lives on")
            process.kill()

    def _tidy(self, *folders: Path) -> None:
        """Counts temporary files that are left; what was found to be right is removed."""
        left = [path for folder in (*folders, self.cache) for path in unfinished_files(folder)]
        for path in left:
            self.counts["temporary files left"] += 1
            self.fault(f"{path} was left")
            path.unlink(missing_ok=True)
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)

    def finish(self) -> None:
        """Once killed sessions have settled, the next removes what they left; nothing else may be there.

        Neither Ray nor W&B removes its temporary files when it is killed.
        """
        if killed := list(self.temporary.glob("raylight-*")):
            newest = max(path.stat().st_mtime for path in killed)
            time.sleep(max(0.0, 95 - (time.time() - newest)))
            commands = self.commands("last", self.folder / "last-cache")
            code, output = commands.run(*changed(self.words("Ray"), "logger=wandb"))
            if code:
                self.fault(f"Ray and W&B after all kills: {output[-600:]}")
        for path in self.temporary.glob("raylight-ray-*"):
            self.counts["leaked Ray sessions"] += 1
            self.fault(f"{path} was left")
        for path in self.temporary.iterdir():
            if not path.name.startswith("raylight-ray-"):
                self.counts["temporary files left"] += 1
                self.fault(f"{path} was left")


def main() -> int:
    """Soak, count, write the tables; 1 when anything was at fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of random kills, after the faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="write the tables into README.md")
    parser.add_argument("--skip-faults", action="store_true", help="random kills alone")
    arguments = parser.parse_args()
    begin = time.monotonic()
    caused = [] if arguments.skip_faults else [outcome for _, outcome in faults.outcomes()]
    for outcome in caused:
        print(f"{outcome.fault}: {outcome.outcome} (exit code {outcome.exit_code})", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    os.environ[MARK] = "parent"
    deadline = min(time.monotonic() + 60 * arguments.minutes, begin + LONGEST - LAST)
    try:
        soak = Soak(folder, arguments.seed)
        for outcome in caused:
            if outcome.outcome.startswith(faults.WRONG):
                soak.fault(f"{outcome.fault}: {outcome.outcome}")
        scenarios = [soak.kill_a_run] * 7 + [soak.kill_a_sweep] * 2 + [soak.kill_a_builder]
        while time.monotonic() < deadline:
            scenarios[int(soak.random.integers(len(scenarios)))]()
            print(f"{time.monotonic() - begin:.0f} s: {dict(soak.counts)}", flush=True)
        soak.finish()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    names = (
        "kills", "resumptions", "results compared", "mismatches", "orphaned processes", "leaked Ray sessions",
        "temporary files left", "faults",
    )  # fmt: skip
    counts = ["| counted | |", "| --- | ---: |", *(f"| {name} | {soak.counts[name]} |" for name in names)]
    counts += ["", f"Seed {arguments.seed}, {(time.monotonic() - begin) / 60:.0f} minutes in all."]
    stops = [
        "| what was stopped | by | while | times | what its status said then |",
        "| --- | --- | --- | ---: | --- |",
    ]
    stops += [
        f"| {what} | {how} | {stage} | {times} | {state} |"
        for (what, how, stage, state), times in sorted(soak.kills.items())
    ]
    table = ["| fault | what happened | exit code |", "| --- | --- | ---: |"]
    table += [f"| {outcome.fault} | {outcome.outcome} | {outcome.exit_code} |" for outcome in caused]
    print("\n".join([*table, "", *stops, "", *counts]))
    if arguments.table:
        readme = Path(__file__).with_name("README.md")
        for name, lines in (("faults", table if caused else []), ("kills", stops), ("counts", counts)):
            if lines:
                replace_table(readme, name, lines)
    return int(bool(soak.faults))


if __name__ == "__main__":
    sys.exit(main())
