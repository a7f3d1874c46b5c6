"""What a command takes from Enter to prompt: wall seconds, and CPU seconds of all its processes."""

import ctypes
import os
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

PR_SET_CHILD_SUBREAPER = 36
"""See prctl(2): orphans among our descendants become our children, so that their CPU seconds are counted here, too."""


@dataclass(frozen=True)
class Cost:
    """What a command took.

    Attributes:
        wall: seconds until it returned.
        cpu: seconds of processor time, user and system, of it and all its descendants.
        code: its exit code; None if it ran into its limit.
    """

    wall: float
    cpu: float
    code: int | None


def cost_of(command: Sequence[str | Path], environment: Mapping[str, str], limit: float, log: Path) -> Cost:
    """Run a command and wait for its processes.

    Args:
        command: program and arguments.
        environment: variables.
        limit: seconds after which it is ended.
        log: file of what it prints.

    Returns:
        Its cost. Processes that it leaves behind get ten seconds to end by themselves; they don't count as wall seconds.
    """
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    before, begin = _children(), time.perf_counter()
    with log.open("w") as stream:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        code: int | None
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            code = None
            _end_all()
            process.wait()
    wall = time.perf_counter() - begin
    _reap(patience=10)
    return Cost(wall, _children() - before, code)


def _children() -> float:
    """CPU seconds of all children that have ended and been waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _reap(patience: float) -> None:
    """Wait for the orphans; end those that are still there after so many seconds."""
    until = time.monotonic() + patience
    while psutil.Process().children():
        if time.monotonic() > until:
            _end_all()
        with suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)
        time.sleep(0.05)


def _end_all() -> None:
    """Kill all descendants."""
    for each in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            each.send_signal(signal.SIGKILL)
