"""The environment of a run: versions, processor, threads, git. No environment variables, since they may hold secrets."""

import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from raylight.machine import usable_cpus

PACKAGES = [
    "raylight",
    "hydra-core",
    "omegaconf",
    "pytorch-lightning",
    "torch",
    "torchvision",
    "torchmetrics",
    "ray",
    "wandb",
    "numpy",
    "pyarrow",
    "pillow",
    "simplejpeg",
    "scikit-learn",
    "scipy",
]

GIT_SECONDS = 10.0
"""Time limit of a command of git's, which walks through all files of the working directory."""


def environment() -> dict[str, Any]:
    """The versions, processor, memory, threads and git revision of the working directory, as in ``environment.json``."""
    import psutil
    import torch

    return {
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "processor": processor_name(),
        "usable_cpus": usable_cpus(),
        "torch_threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "git": git_state(Path.cwd()),
    }


def processor_name() -> str:
    """The name of the processor according to the system."""
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def git_state(folder: Path) -> dict[str, Any] | None:
    """The revision of a working tree, and whether it has uncommitted changes; ``None`` outside git, or where git takes long."""
    try:
        revision = _git(folder, "rev-parse", "HEAD")
        return {"revision": revision, "dirty": bool(_git(folder, "status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments], check=True, capture_output=True, text=True, timeout=GIT_SECONDS
    )
    return done.stdout.strip()
