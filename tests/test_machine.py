"""How much of the machine this process may use."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from raylight import machine

COUNT = "from raylight.machine import usable_cpus; print(usable_cpus())"


def test_affinity_counts() -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system has no processor affinity")
    one = {min(os.sched_getaffinity(0))}
    done = subprocess.run(
        [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {one}); {COUNT}"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "1"


@pytest.mark.parametrize(
    ("files", "cpus"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "20000 100000\n"}, 1),
        ({"cpu.cfs_quota_us": "-1\n", "cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu.cfs_quota_us": "400000\n", "cpu.cfs_period_us": "100000\n"}, 4),
        ({}, None),
    ],
)
def test_quotas_of_both_kinds_of_control_groups(tmp_path: Path, files: dict[str, str], cpus: int | None) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert machine._quota(tmp_path) == (cpus or 1 << 20)


def test_a_real_quota_of_this_machine_counts() -> None:
    """Needs the right to make control groups; runs in a group of its own."""
    group = Path("/sys/fs/cgroup/cpu/raylight-test")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"can't make a version 1 control group: {error}")
    try:
        (group / "cpu.cfs_quota_us").write_text("70000")
        code = f"open('{group}/cgroup.procs', 'w').write('0'); {COUNT}"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "1"
    finally:
        group.rmdir()
