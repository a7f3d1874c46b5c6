"""The run folder: who owns it, how files get into it, and what its status says.

A run folder is claimed exclusively, so that simultaneous jobs never share one. Every file appears whole under its
name or not at all. What the files mean is the business of the rooms that write them.
"""

import contextlib
import json
import logging
import math
import os
import socket
import tempfile
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raylight.errors import RaylightError, RunError
from raylight.runs.signals import Stopped, stopping_politely

STATUS_FILE = "status.json"


@dataclass(frozen=True)
class RunDir:
    """A folder that holds one run and needs nothing else."""

    path: Path

    @classmethod
    def claim(cls, path: Path) -> "RunDir":
        """Take a new run folder, which may exist but must not have been taken.

        Raises:
            RunError: another run owns it, or it can't be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            with (path / STATUS_FILE).open("x"):
                pass
        except FileExistsError as error:
            raise RunError(
                f"The run folder {path} belongs to another run. Choose another one with hydra.run.dir=PATH, or leave "
                "the choice to Raylight."
            ) from error
        except OSError as error:
            raise RunError(
                f"The run folder {path} can't be written ({error.strerror}). Choose another one with hydra.run.dir=PATH."
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDir":
        """An existing run folder.

        Raises:
            RunError: it isn't one.
        """
        missing = [name for name in ("config.yaml", STATUS_FILE) if not (path / name).is_file()]
        if missing:
            raise RunError(
                f"{path} is not a run folder: it has no {' and no '.join(missing)}. A run folder is what train.py "
                "prints last, for example outputs/demo-cnn2/2026-01-31_10-00-00-1a2b3c."
            )
        return cls(path)

    def __truediv__(self, name: str) -> Path:
        return self.path / name

    def folder(self, name: str) -> Path:
        """A folder below the run's, made when it isn't there."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file that appears whole or not at all."""
        return write_atomically(self.path / name, text.encode("utf-8", "surrogateescape"))

    def write_json(self, name: str, value: Any) -> Path:
        """Write JSON that appears whole or not at all; NaN and infinities become null, as JSON has none."""
        return self.write_text(name, json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str) + "\n")

    def read_json(self, name: str) -> Any:
        """Read a JSON file of the run.

        Raises:
            RunError: it is missing or broken.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8", errors="surrogateescape"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / name} can't be read ({error}); the run is incomplete.") from error


def write_atomically(path: Path, content: bytes) -> Path:
    """Replace a file in one step, so that a reader or a kill never meets half of it.

    Raises:
        OSError: the disk is full or the folder can't be written; nothing is left behind.
    """
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return path


@dataclass
class Status:
    """What ``status.json`` says while a run goes on, and how it ended."""

    run_dir: RunDir
    started: float
    exit_code: int = 0
    stage: str = "starting"

    def write(self, state: str, reason: str | None = None, trace: str | None = None) -> None:
        """Write the status.

        Args:
            state: running, finished, failed or interrupted.
            reason: one sentence why it ended, for a reader.
            trace: the traceback of a failure.
        """
        self.run_dir.write_json(
            STATUS_FILE,
            {
                "state": state,
                "stage": self.stage,
                "started": _iso(self.started),
                "updated": _iso(time.time()),
                "seconds": round(time.time() - self.started, 2),
                "exit_code": None if state == "running" else self.exit_code,
                "reason": reason,
                "traceback": trace,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process_started": _process_started(os.getpid()),
            },
        )

    def enter(self, stage: str) -> None:
        """Note which stage begins."""
        self.stage = stage
        self.write("running")


def state_of(run: RunDir) -> str:
    """The true state of a run; a ``running`` whose process is gone (on this host) is ``interrupted``."""
    status = run.read_json(STATUS_FILE)
    state = str(status["state"])
    if state != "running" or status["host"] != socket.gethostname():
        return state
    alive = _process_started(status["pid"]) == status["process_started"] is not None
    return "running" if alive else "interrupted"


@contextlib.contextmanager
def recorded(run: RunDir) -> Iterator[Status]:
    """Keep ``status.json`` and ``train.log`` true from the first line to the last, however the run ends.

    Nothing is raised: the caller reads ``exit_code``. A user's mistake is logged as its sentence, anything else with
    its traceback.
    """
    log = logging.getLogger("raylight")
    handler = logging.FileHandler(run / "train.log", encoding="utf-8", errors="surrogateescape")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    status = Status(run, time.time())
    status.write("running")
    try:
        with stopping_politely():
            yield status
            status.write("finished")
    except Stopped as stop:
        status.exit_code = stop.exit_code
        log.warning("The run was %s while %s.", stop.reason, status.stage)
        status.write("interrupted", stop.reason)
    except RaylightError as error:
        status.exit_code = error.exit_code
        log.error("%s", error)
        status.write("failed", str(error))
    except Exception as error:
        status.exit_code = 1
        log.exception("The run failed while %s.", status.stage)
        status.write("failed", f"{type(error).__name__}: {error}", traceback.format_exc())
    finally:
        log.removeHandler(handler)
        handler.close()


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return value


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _process_started(pid: int) -> float | None:
    """When a process began, so that a reused process number isn't taken for the old process."""
    import psutil

    try:
        return round(psutil.Process(pid).create_time(), 2)
    except psutil.NoSuchProcess:
        return None
