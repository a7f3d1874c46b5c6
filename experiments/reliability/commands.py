"""Raylight's commands as a user runs them, and what they leave behind: shared by the faults and the soak."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
MARK = "RAYLIGHT_SOAK"
"""Environment variable by which our own processes are known."""

TINY = (
    "model=cnn2",
    "model.image_size=32",
    "model.channels=[8,8]",
    "model.dense=[]",
    "data.limit=24",
    "trainer.batch_size=8",
    "trainer.max_epochs=4",
    "trainer.precision=32",
    "trainer.threads=1",
    "trainer.channels_last=false",
    "decode=threads",
    "logger=csv",
    "report.enabled=false",
    "report.plots=false",
)
"""A run of seconds, most of which are imports."""

FINETUNING: dict[str, tuple[str, ...]] = {
    "scratch": (),
    "full": ("finetune=full", "augment=flip", "model.weights=WEIGHTS"),
    "frozen": ("finetune=frozen", "model.weights=WEIGHTS"),
    "last_blocks": ("finetune=last_blocks", "augment=flip", "finetune.views=2", "model.weights=WEIGHTS"),
    "two_phase": (
        "finetune=two_phase",
        "finetune.phases=[{train_from:head,epochs:2},{train_from:last_blocks}]",
        "model.weights=WEIGHTS",
    ),
}
"""Every way of fine-tuning; WEIGHTS stands for a file of weights."""


def changed(words: Iterable[str], *changes: str) -> list[str]:
    """A command line with some settings changed."""
    keys = {word.partition("=")[0] for word in changes}
    return [*(word for word in words if word.partition("=")[0] not in keys), *changes]


@dataclass
class Commands:
    """Runs commands in a folder of their own.

    Attributes:
        folder: working directory; outputs go below it.
        cache: where decoded images go.
        mark: value of ``MARK`` in the environment of all processes.
        environment: further variables.
    """

    folder: Path
    cache: Path
    mark: str = "1"
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The environment of its processes."""
        return {
            **os.environ,
            "RAYLIGHT_CACHE": str(self.cache),
            "WANDB_MODE": "offline",
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder.parent / "torch"),
            MARK: self.mark,
            **self.environment,
        }

    def start(
        self, *words: str, before: Callable[[], None] | None = None, prefix: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """Starts ``train.py``, or ``raylight`` where the first word is one of its commands."""
        command = (
            [sys.executable, "-m", "raylight.cli", *words]
            if words and words[0] in ("resume", "evaluate", "predict")
            else [sys.executable, str(ROOT / "train.py"), *words]
        )
        if command[1:3] == ["-m", "raylight.cli"]:
            command[1:3] = ["-c", "from raylight.cli import main; main()"]
        return subprocess.Popen(
            [*prefix, *command],
            cwd=self.folder,
            env=self.variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=before,
        )

    def run(
        self, *words: str, before: Callable[[], None] | None = None, prefix: tuple[str, ...] = ()
    ) -> tuple[int, str]:
        """Runs a command to its end: exit code and everything printed."""
        process = self.start(*words, before=before, prefix=prefix)
        output, _ = process.communicate(timeout=600)
        return process.returncode, output

    def runs(self) -> list[Path]:
        """The run folders made so far, oldest first."""
        return sorted(
            (path.parent for path in self.folder.glob("outputs/*/*/status.json")), key=lambda run: run.stat().st_ctime
        )


def result_of(run: Path) -> dict[str, Any]:
    """What must be the same for two runs of the same settings: predictions, learning curves, test metrics."""
    metrics = json.loads((run / "metrics.json").read_text())
    with (run / "history.csv").open() as lines:
        history = [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(lines)]
    return {
        "predictions": (run / "predictions.csv").read_text(),
        "history": history,
        "metrics": {name: value for name, value in metrics.items() if name.startswith("test/")},
    }


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The parts of two results that aren't the same."""
    return [name for name in one if one[name] != other[name]]


def unfinished_files(folder: Path) -> list[Path]:
    """Files that were to be renamed and never were."""
    endings = (".tmp", ".building", ".tmp.npy", ".part")
    return [
        path
        for path in folder.rglob("*")
        if path.name.endswith(endings)
        or (path.name.startswith(".") and not path.name.endswith(".lock") and "wandb" not in path.parts)
    ]
