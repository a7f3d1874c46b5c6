"""The run folder: who owns it, how files get into it, and what its status says.

A run folder is claimed exclusively, so that simultaneous jobs never share one. Every file appears whole under its
name or not at all. Leaves out what the files mean.
"""

import contextlib
import errno
import json
import logging
import math
import os
import socket
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from raylight.config.resume import COMMAND_FILE
from raylight.errors import RaylightError, RunError
from raylight.runs.signals import Stopped, stopping_politely
from raylight.storage.atomic import sync, write_atomically
from raylight.storage.locks import LOG_FILE, is_locked, locked

LAST_CHECKPOINT = "checkpoints/last.ckpt"
"""The last whole epoch, which a run goes on from."""
STATUS_FILE = "status.json"
FOLDERS = ("checkpoints", "plots")
"""Where a run has files besides its folder itself; W&B looks after its own."""


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
        if missing == ["config.yaml"]:
            raise RunError(f"{path} was stopped before its config was written: there is nothing to go on with.")
        if (path / COMMAND_FILE).is_file():
            raise RunError(f"{path} is the folder of a sweep, not of a run; choose one of the runs in it.")
        if missing:
            raise RunError(
                f"{path} is not a run folder: it has no {' and no '.join(missing)}. A run folder is what training "
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

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write a file that appears whole or not at all."""
        return write_atomically(self.path / name, content)

    def write_again(self, written: str, name: str) -> Path:
        """Have a file of this folder under another name, too, which appears whole or not at all.

        A hard link where the file system has them, so that nothing is written twice. Files here are replaced and never
        changed, thus one name's next content isn't the other's.
        """
        source, path = self.path / written, self.path / name
        temporary = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.tmp")
        try:
            temporary.hardlink_to(source)
        except OSError:  # no hard links here; if it is anything else, copying says so
            return write_atomically(path, source.read_bytes())
        temporary.replace(path)
        temporary.unlink(missing_ok=True)  # renaming does nothing where both are links to the same file already
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Write a text file that appears whole or not at all."""
        return self.write_bytes(name, text.encode("utf-8", "surrogateescape"))

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


@dataclass
class Status:
    """What ``status.json`` says while a run goes on, and how it ended."""

    run_dir: RunDir
    started: float
    exit_code: int = 0
    stage: str = "starting"
    error: BaseException | None = None
    _begin: float = field(default_factory=time.monotonic)  # unlike the clock, never set

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
                "seconds": round(time.monotonic() - self._begin, 2),
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
    """The true state of a run: a ``running`` that nobody works on any more is ``interrupted``."""
    status = run.read_json(STATUS_FILE)
    state = str(status["state"])
    if state != "running":
        return state
    alive = is_locked(run.path)
    if alive is None:
        here = status["host"] == socket.gethostname()
        alive = not here or _process_started(status["pid"]) == status["process_started"] is not None
    return "running" if alive else "interrupted"


@contextlib.contextmanager
def recorded(run: RunDir) -> Iterator[Status]:
    """Keep ``status.json`` and ``train.log`` true from the first line to the last, however the run ends.

    What happens inside isn't raised: the caller reads ``exit_code``. A user's mistake, a full disk or too little memory is
    logged as its sentence, anything else with its traceback.

    Raises:
        RunError: another process works on the same run, or its folder can't be written.
    """
    try:
        with locked(run.path), _logged_to(run / LOG_FILE) as log, stopping_politely() as signals:
            _remove_leftovers(run.path)
            status = Status(run, time.time())
            status.write("running")
            try:
                yield status
                signals.end_at_once()
                ending: tuple[str, str | None, str | None] = ("finished", None, None)
            except Stopped as stop:
                status.exit_code, status.error = stop.exit_code, stop
                log.warning("The run was %s while %s.", stop.reason, status.stage)
                ending = ("interrupted", stop.reason, None)
            except RaylightError as error:
                status.exit_code, status.error = error.exit_code, error
                log.error("%s", error)
                ending = ("failed", str(error), None)
            except Exception as error:
                status.exit_code, status.error = 1, error
                sentence = _shortage(error) or _removal(error, run.path)
                if sentence:
                    log.error("The run failed while %s: %s", status.stage, sentence)
                else:
                    log.exception("The run failed while %s.", status.stage)
                ending = ("failed", sentence or f"{type(error).__name__}: {error}", traceback.format_exc())
            signals.end_at_once()
            try:
                _sync_names(run.path)
                status.write(*ending)
                _sync_names(run.path)
            except OSError as error:
                status.exit_code = status.exit_code or 1
                log.error("%s can't be written: %s", run / STATUS_FILE, error.strerror)
    except OSError as error:
        raise RunError(f"The run folder {run.path} can't be written: {error.strerror}.") from error


def _shortage(error: Exception) -> str | None:
    """A sentence for what the machine lacks; None for every other error."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        place = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{place}. Make room, and go on with: raylight resume RUN"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and error.filename:
        return f"{error.filename} can't be written or read: {error.strerror}."
    lacks_memory = ("allocate memory", "std::bad_alloc", "can't start new thread")
    if isinstance(error, MemoryError) or any(words in text for words in lacks_memory):
        return (
            "there is not enough memory. Lower trainer.batch_size or model.image_size, or give the process more; then go on "
            "with: raylight resume RUN"
        )
    return None


def _removal(error: Exception, folder: Path) -> str | None:
    """A sentence where the run's own folder, or one in it, isn't there any more; None for every other error."""
    if not isinstance(error, FileNotFoundError) or not error.filename:
        return None
    gone = Path(os.fsdecode(error.filename)).parent
    if gone.is_dir() or not gone.is_relative_to(folder):
        return None
    return (
        f"{gone} was removed or moved while the run wrote into it. Where the run folder is now, it goes on with: "
        "raylight resume RUN"
    )


class _LogFile(logging.FileHandler):
    """A log file that reports once that it can't be written, instead of a traceback per line."""

    silent = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.silent:
            self.silent = True
            print(f"{self.baseFilename} can't be written: {error.strerror}", file=sys.stderr)  # noqa: T201 - the log itself is full


@contextlib.contextmanager
def _logged_to(path: Path) -> Iterator[logging.Logger]:
    log = logging.getLogger("raylight")
    handler = _LogFile(path, encoding="utf-8", errors="surrogateescape")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk has been told of
            handler.close()


def _remove_leftovers(folder: Path) -> None:
    """Removes the unfinished files of a killed process; the folder is locked, so nobody is writing them."""
    for place in (folder, *(folder / name for name in FOLDERS)):
        for unfinished in place.glob(".*.tmp"):
            unfinished.unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    """Makes the folder's list of files survive a power failure; their contents do already.

    Needed once a run has ended: earlier, a file that is still the one before is as good, as resuming begins with it.
    """
    if sys.platform == "win32":  # which opens no folders
        return
    for place in (folder, *(folder / name for name in FOLDERS if (folder / name).is_dir())):
        sync(place)


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
