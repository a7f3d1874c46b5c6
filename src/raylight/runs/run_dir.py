"""The run folder: claimed exclusively, so that simultaneous jobs never share one; files written atomically; a status."""

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
from raylight.runs.signals import Stopped, graceful_stop
from raylight.storage.atomic import sync, write_atomically
from raylight.storage.locks import LOG_FILE, is_locked, locked

LAST_CHECKPOINT = "checkpoints/last.ckpt"
"""The last complete epoch, with which a resumed run continues."""
STATUS_FILE = "status.json"
FOLDERS = ("checkpoints", "plots")
"""Folders in a run folder to which Raylight writes; ``wandb`` is W&B's."""


@dataclass(frozen=True)
class RunDir:
    """A folder that holds everything about one run.

    Attributes:
        path: of the folder.
    """

    path: Path

    @classmethod
    def claim(cls, path: Path) -> "RunDir":
        """Claims a folder, which may exist, for a new run.

        Raises:
            RunError: another run has claimed it, or it can't be written.
        """
        try:
            path.mkdir(parents=True, exist_ok=True)
            with (path / STATUS_FILE).open("x"):
                pass
        except FileExistsError as error:
            raise RunError(
                f"The run folder {path} belongs to another run. Choose another one with hydra.run.dir=PATH, or let Raylight "
                "choose."
            ) from error
        except OSError as error:
            raise RunError(
                f"The run folder {path} can't be written ({error.strerror}). Choose another one with hydra.run.dir=PATH."
            ) from error
        return cls(path)

    @classmethod
    def open(cls, path: Path) -> "RunDir":
        """Opens an existing run folder.

        Raises:
            RunError: it isn't a run folder.
        """
        missing = [name for name in ("config.yaml", STATUS_FILE) if not (path / name).is_file()]
        if missing == ["config.yaml"]:
            raise RunError(f"{path} was stopped before its config was written: there is nothing to resume.")
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
        """A folder in the run folder, created if necessary."""
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Writes a file in the run folder atomically, and returns its path."""
        return write_atomically(self.path / name, content)

    def write_link(self, existing: str, name: str) -> Path:
        """Gives an existing file a second name, atomically, and returns its path.

        This is a hard link where the file system has them, so that nothing is written twice. Since files are replaced and
        never changed, writing to one name later doesn't change the other.
        """
        source, path = self.path / existing, self.path / name
        temporary = path.with_name(f".{path.name[:40]}.{os.urandom(4).hex()}.tmp")
        try:
            temporary.hardlink_to(source)
        except OSError:  # no hard links here; if the reason is another one, copying raises it
            return write_atomically(path, source.read_bytes())
        temporary.replace(path)
        temporary.unlink(missing_ok=True)  # renaming does nothing if both are already links to the same file
        return path

    def write_text(self, name: str, text: str) -> Path:
        """Writes a text file atomically; see ``write_bytes``."""
        return self.write_bytes(name, text.encode("utf-8", "surrogateescape"))

    def write_json(self, name: str, value: Any) -> Path:
        """Writes a JSON file atomically; NaN and infinities, which JSON lacks, become null. See ``write_bytes``."""
        return self.write_text(name, json.dumps(_finite(value), indent=2, ensure_ascii=False, default=str) + "\n")

    def read_json(self, name: str) -> Any:
        """Reads a JSON file of the run.

        Raises:
            RunError: it is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8", errors="surrogateescape"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path / name} can't be read ({error}); the run is incomplete.") from error


@dataclass
class Status:
    """The content of ``status.json``: the stage of a run, and how it ended.

    Attributes:
        run_dir: folder of the run.
        started: when this process began to work on it, in seconds since 1970.
        exit_code: of the command.
        stage: what is being done, such as "training".
        error: what ended the run, if anything.
        earlier: seconds of earlier sessions.
    """

    run_dir: RunDir
    started: float
    exit_code: int = 0
    stage: str = "starting"
    error: BaseException | None = None
    earlier: float = 0.0
    _begin: float = field(default_factory=time.monotonic)  # unlike the clock, never changed by the system

    def write(self, state: str, reason: str | None = None, trace: str | None = None) -> None:
        """Writes the file.

        Args:
            state: running, finished, failed or interrupted.
            reason: why it ended, in one sentence.
            trace: the traceback of a failure.
        """
        self.run_dir.write_json(
            STATUS_FILE,
            {
                "state": state,
                "stage": self.stage,
                "started": _iso(self.started),
                "updated": _iso(time.time()),
                "seconds": round(self.earlier + time.monotonic() - self._begin, 2),
                "exit_code": None if state == "running" else self.exit_code,
                "reason": reason,
                "traceback": trace,
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "process_started": _process_started(os.getpid()),
            },
        )

    def enter(self, stage: str) -> None:
        """Records that a stage begins."""
        self.stage = stage
        self.write("running")


def state_of(run: RunDir) -> str:
    """The actual state of a run: ``running`` becomes ``interrupted`` if no process works on it any more."""
    status = run.read_json(STATUS_FILE)
    state = str(status["state"])
    if state != "running":
        return state
    alive = is_locked(run.path)
    if alive is None:
        same_host = status["host"] == socket.gethostname()
        alive = not same_host or _process_started(status["pid"]) == status["process_started"] is not None
    return "running" if alive else "interrupted"


@contextlib.contextmanager
def recorded(run: RunDir, earlier: float = 0.0) -> Iterator[Status]:
    """Keeps ``status.json`` and ``train.log`` up to date until the run ends, however it does.

    Errors in the context aren't raised: the caller reads ``exit_code``. A user's mistake, a full disk and a lack of memory are
    logged in a sentence, everything else with its traceback.

    Args:
        run: its folder.
        earlier: seconds of earlier sessions.

    Yields:
        The status, whose ``enter`` the caller calls for each stage.

    Raises:
        RunError: another process works on the same run, or its folder can't be written.
    """
    try:
        with locked(run.path), _log_to_file(run / LOG_FILE) as log, graceful_stop() as signals:
            _remove_leftovers(run.path)
            status = Status(run, time.time(), earlier=earlier)
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
                sentence = _explain_shortage(error) or _explain_removal(error, run.path)
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


def _explain_shortage(error: Exception) -> str | None:
    """A sentence about a lack of disk space, permission or memory; ``None`` for every other error."""
    text = str(error)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        path = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{path}. Free disk space, and continue with: raylight resume RUN"
    if isinstance(error, OSError) and error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) and error.filename:
        return f"{error.filename} can't be written or read: {error.strerror}."
    lacks_memory = ("allocate memory", "std::bad_alloc", "can't start new thread")
    if isinstance(error, MemoryError) or any(words in text for words in lacks_memory):
        return (
            "there is not enough memory. Lower trainer.batch_size or model.image_size, or give the process more; then continue "
            "with: raylight resume RUN"
        )
    return None


def _explain_removal(error: Exception, folder: Path) -> str | None:
    """A sentence if the run folder, or a folder in it, has disappeared; ``None`` for every other error."""
    if not isinstance(error, FileNotFoundError) or not error.filename:
        return None
    removed = Path(os.fsdecode(error.filename)).parent
    if removed.is_dir() or not removed.is_relative_to(folder):
        return None
    return (
        f"{removed} was removed or moved while the run wrote into it. If the run folder was moved, continue there with: "
        "raylight resume RUN"
    )


class _LogFile(logging.FileHandler):
    """A log file that reports once if it can't be written, instead of printing a traceback per line."""

    silent = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the base class's name
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.silent:
            self.silent = True
            print(f"{self.baseFilename} can't be written: {error.strerror}", file=sys.stderr)  # noqa: T201 - the log itself is full


@contextlib.contextmanager
def _log_to_file(path: Path) -> Iterator[logging.Logger]:
    log = logging.getLogger("raylight")
    handler = _LogFile(path, encoding="utf-8", errors="surrogateescape")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    log.addHandler(handler)
    try:
        yield log
    finally:
        log.removeHandler(handler)
        with contextlib.suppress(OSError):  # a full disk has been reported already
            handler.close()


def _remove_leftovers(folder: Path) -> None:
    """Removes the unfinished files of a killed process; the folder is locked, so no other process is writing them."""
    for parent in (folder, *(folder / name for name in FOLDERS)):
        for unfinished in parent.glob(".*.tmp"):
            unfinished.unlink(missing_ok=True)


def _sync_names(folder: Path) -> None:
    """Makes the names of the files survive a power failure, as their contents do already.

    This is only necessary at the end of a run: before, it could be resumed with the previous version of a file as well.
    """
    if sys.platform == "win32":  # can't open folders
        return
    for parent in (folder, *(folder / name for name in FOLDERS if (folder / name).is_dir())):
        sync(parent)


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
    """When a process began, so that a reused process ID isn't mistaken for the old process."""
    import psutil

    try:
        return round(psutil.Process(pid).create_time(), 2)
    except psutil.NoSuchProcess:
        return None
