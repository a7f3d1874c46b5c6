"""Calls that only some systems have: the list of all of them, each with its twin where it is missing.

Tried here is what happens without them; nobody has run the suite on macOS or Windows.
"""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from raylight.data import cache_files
from raylight.data.decode.spec import DecodeSpec
from raylight.data.decode.with_ray import Output
from raylight.process import ensure_home
from tests.forked import ROOT

SRC = ROOT / "src"

LISTED = {
    ("raylight.machine", "os.sched_getaffinity"): "os.cpu_count() (hasattr)",
    ("raylight.machine", "resource"): "no peak memory (ImportError)",
    ("raylight.machine", "/sys/fs/cgroup"): "no quota: the folder is missing",
    ("raylight.machine", "/proc/self/cgroup"): "no quota: the file is missing",
    ("raylight.machine", "/proc/self/stat"): "the age that psutil tells (sys.platform)",
    ("raylight.machine", "os.sysconf"): "the age that psutil tells (sys.platform)",
    (
        "raylight.machine",
        "/proc/cpuinfo",
    ): "no flags, so neither bf16, int8 nor our depthwise kernel: the file is missing",
    ("raylight.runs.environment", "/proc/cpuinfo"): "platform.processor(): the file is missing",
    ("raylight.runs.ray_session", "/dev/shm"): "not asked: the folder is missing",
    ("raylight.process", "os.getuid"): "the user's own temporary folder (hasattr)",
    ("raylight.storage.scratch", "os.getuid"): "not asked (sys.platform)",
    ("raylight.storage.locks", "fcntl"): "nobody can tell (sys.platform): the caller looks at the process",
    ("raylight.storage.atomic", "os.sync"): "nothing (hasattr)",
    ("raylight.data.cache_files", "os.posix_fallocate"): "truncate (AttributeError)",
    ("raylight.data.cache_files", "os.fdatasync"): "os.fsync (getattr)",
    ("raylight.data.cache_files", "os.pwrite"): "seek and write under a lock (hasattr)",
    ("raylight.data.decode.with_ray", "os.pwrite"): "pixels are sent to the driver (hasattr)",
    ("raylight.data.samples", "mmap.MADV_RANDOM"): "no advice (hasattr)",
    ("raylight.data.samples", "mmap.MADV_WILLNEED"): "no advice (hasattr)",
    ("raylight.data.samples", "mmap.MADV_NORMAL"): "no advice (hasattr)",
    ("raylight.training.distributed.local", "forkserver"): "spawn (sys.platform)",
}
"""What is used, where, and what is done instead; by Python's documentation ("Availability")."""

OF_OS = {
    *(
        "chown",
        "chroot",
        "fchmod",
        "fchown",
        "fdatasync",
        "fork",
        "forkpty",
        "getegid",
        "geteuid",
        "getgid",
        "getgroups",
    ),
    *(
        "getloadavg",
        "getpgid",
        "getpriority",
        "getuid",
        "killpg",
        "lchown",
        "mkfifo",
        "mknod",
        "nice",
        "openpty",
        "pipe2",
    ),
    *("posix_fadvise", "posix_fallocate", "posix_spawn", "pread", "preadv", "pwrite", "pwritev", "sched_getaffinity"),
    *(
        "sched_setaffinity",
        "sendfile",
        "setgid",
        "setpriority",
        "setsid",
        "setuid",
        "sync",
        "sysconf",
        "uname",
        "wait3",
    ),
    *("waitid", "waitpid", "WNOHANG"),
}
OF_SIGNAL = {
    "SIGALRM",
    "SIGCHLD",
    "SIGHUP",
    "SIGKILL",
    "SIGPIPE",
    "SIGQUIT",
    "SIGUSR1",
    "SIGUSR2",
    "alarm",
    "pthread_kill",
}
MODULES = {"fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty"}
TEXTS = ("/proc/", "/dev/", "/sys/", "forkserver")


def uses(file: Path) -> Iterator[str]:
    """What a file uses of the above."""
    tree = ast.parse(file.read_text())
    docs = {
        ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef)
    }
    docs |= {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and (found := MODULES & {name.name for name in node.names}):
            yield from found
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            owner, name = node.value.id, node.attr
            known = {"os": OF_OS, "signal": OF_SIGNAL}.get(owner, set())
            if name in known or (owner == "mmap" and name.startswith("MADV_")):
                yield f"{owner}.{name}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "getattr" and ast.unparse(node.args[0]) == "os":
            yield f"os.{ast.literal_eval(node.args[1])}"
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value not in docs:
            yield from (node.value for text in TEXTS if node.value.startswith(text))


def test_the_list_is_complete() -> None:
    found = {
        (".".join(file.relative_to(SRC).with_suffix("").parts), use) for file in SRC.rglob("*.py") for use in uses(file)
    }
    assert found == set(LISTED)


def test_a_cache_is_written_without_the_calls_of_linux(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fdatasync", "posix_fallocate", "pwrite"):
        monkeypatch.delattr(os, name)
    monkeypatch.setattr(cache_files, "_SYNC_EVERY", 1)
    file = tmp_path / "file"
    with file.open("w+b") as output:
        cache_files.reserve(output, 1000)
    assert file.stat().st_size == 1000
    assert Output(str(file), 0, "node").descriptor() is None
    images = np.arange(24, dtype=np.uint8).reshape(2, 2, 2, 3)
    with cache_files.PixelFile(tmp_path, 2, DecodeSpec(2, "stretch")) as pixels:
        for row in (1, 0):
            pixels.write(row, images[row])
        pixels.flush()
        pixels.finish({"a": 0, "b": 1})
    assert np.array_equal(np.load(tmp_path / cache_files.PIXELS), images)


def test_a_user_without_a_number_has_a_home(monkeypatch: pytest.MonkeyPatch) -> None:
    import tempfile

    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delattr(os, "getuid")
    ensure_home()
    assert os.environ["HOME"] == tempfile.gettempdir()
