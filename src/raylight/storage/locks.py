"""Locking a run folder: a lock on its log, which the kernel releases however the process ends.

A process ID can be reused, a clock can be set, a container gets a new host name each time: none of them tells whether a run is
still going on. A lock does, also to another machine that sees the folder.
"""

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from raylight.errors import RunError

if sys.platform != "win32":  # where there is no flock, and the caller looks for the process instead
    import fcntl

LOG_FILE = "train.log"

_WAIT = 1.0
"""Seconds to wait for a process that only checks whether the folder is locked."""


@contextlib.contextmanager
def locked(folder: Path, file: str = LOG_FILE, work: str = "being trained") -> Iterator[None]:
    """Locks a run folder, or that of a search, until this context, or this process, ends.

    Args:
        folder: of the run.
        file: in the folder, which is made if need be; its lock is that of the folder.
        work: that another process may be doing there, for the message.

    Raises:
        RunError: another process has locked it.
    """
    descriptor = os.open(folder / file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + _WAIT
        while _take(descriptor, shared=False) is False:
            if time.monotonic() > deadline:
                raise RunError(f"{folder} is still {work} by another process; wait for it, or stop it first.")
            time.sleep(0.05)
        yield
    finally:
        os.close(descriptor)


def is_locked(folder: Path) -> bool | None:
    """Whether a process has locked a run folder; ``None`` if the file system has no locks."""
    try:
        descriptor = os.open(folder / LOG_FILE, os.O_RDONLY)
    except FileNotFoundError:
        return False
    try:
        taken = _take(descriptor, shared=True)
        return None if taken is None else not taken
    finally:
        os.close(descriptor)


def _take(descriptor: int, shared: bool) -> bool | None:
    """Tries to take a lock; ``None`` if the file system has none."""
    if sys.platform == "win32":
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks
        return None
    return True
