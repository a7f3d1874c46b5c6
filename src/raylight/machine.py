"""The processors that this process may use, as containers limit them, and how it keeps memory.

Covers Linux control groups (versions 1 and 2), processor affinity and flags; on other systems the machine's figures.
Leaves the choice of precision, threads and memory format to the trainer's measurements.
"""

import ctypes
import functools
import math
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

_CGROUPS = Path("/sys/fs/cgroup")


def usable_cpus() -> int:
    """Processors that this process may keep busy: affinity and CPU quota count, not what the host has.

    A quota of one and a half processors counts as two, which together use all of it.

    Returns:
        At least 1.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for folder in _groups():
        cpus = min(cpus, _quota(folder))
    return max(cpus, 1)


def processor_flags() -> frozenset[str]:
    """The flags of the processor, as Linux names them, among other words; empty on other systems."""
    return frozenset((_read(Path("/proc/cpuinfo")) or "").split())


@functools.cache
def keep_freed_memory() -> None:
    """Make glibc keep freed memory for the next batch instead of giving it back; elsewhere this does nothing.

    A training step frees and takes hundreds of large blocks. Given back each time, they come as new pages that the kernel
    clears: a sixth of ResNet18's training time, a third of MobileNetV2's (224 px, bf16, two cores). The price is that the
    process holds its peak until it ends. See mallopt(3).
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library, such as musl
        return
    trim_threshold, mmap_threshold, mmap_max = -1, -3, -4
    mallopt(trim_threshold, 2**31 - 1)
    if not mallopt(mmap_threshold, 2**30):  # older versions refuse more than 32 MiB
        mallopt(mmap_max, 0)


def give_back_freed_memory() -> None:
    """Return freed memory to the system: after work that needed more than what follows."""
    if sys.platform.startswith("linux") and (trim := getattr(ctypes.CDLL(None), "malloc_trim", None)) is not None:
        trim(0)


def seconds_since_start() -> float:
    """The age of this process, imports included."""
    if not sys.platform.startswith("linux"):
        import psutil

        return max(0.0, time.time() - psutil.Process().create_time())
    # psutil adds it to a start of the system that changes with the clock.
    after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")  # field 22 of proc(5), since the system's start
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started


def peak_memory_gb() -> float | None:
    """The most memory that this process has held so far, in GB (10^9 bytes), pages of mapped files included.

    Returns:
        None where the system doesn't tell (Windows).
    """
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024  # bytes there, KiB on Linux
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9, 3)


def _groups() -> Iterator[Path]:
    """Folders of the control groups that limit this process's processors, innermost first.

    In a container the kernel may name a path of the host, while its innermost folder is mounted as the root.
    """
    for line in (_read(Path("/proc/self/cgroup")) or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = _CGROUPS
        elif "cpu" in controllers.split(","):
            mount = _CGROUPS / controllers if (_CGROUPS / controllers).is_dir() else _CGROUPS / "cpu"
        else:
            continue
        inner = PurePosixPath(path.lstrip("/"))
        yield from (mount / part for part in (inner, *inner.parents) if (mount / part).is_dir())


def _quota(folder: Path) -> int:
    """CPU quota of one control group in processors, rounded up; a very large number without one."""
    unlimited = 1 << 20
    if text := _read(folder / "cpu.max"):
        quota, period = text.split()
    else:
        quota = _read(folder / "cpu.cfs_quota_us") or "max"
        period = _read(folder / "cpu.cfs_period_us") or "100000"
    return unlimited if quota in ("max", "-1") else math.ceil(int(quota) / int(period))


def _read(file: Path) -> str | None:
    """Content of a kernel file; ``None`` where this kernel or container doesn't show it."""
    try:
        return file.read_text().strip()
    except OSError:
        return None
