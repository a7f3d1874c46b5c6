"""A Ray session starts, is shared, can be joined, and leaves nothing behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from raylight.config.schema import RayConfig
from raylight.errors import RaylightError
from raylight.runs.ray_session import ray_session

HOST = """
import os, signal, sys
from raylight.config.schema import RayConfig
from raylight.runs.ray_session import ray_session
import ray
before = dict(os.environ), signal.getsignal(signal.SIGTERM)
with ray_session(RayConfig(object_store_gb=0.1), cpus=1):
    assert signal.getsignal(signal.SIGTERM) is before[1]
    with ray_session(RayConfig(address="nonsense")):
        pass
    assert ray.is_initialized(), "an inner use must not close the outer session"
    folder = ray._private.worker._global_node.get_temp_dir_path()
    print(ray.get_runtime_context().gcs_address, os.environ["RAY_AUTH_TOKEN"], folder, flush=True)
    sys.stdin.readline()
    print(ray.cluster_resources()["CPU"], flush=True)
print("closed", flush=True)
assert not ray.is_initialized()
assert dict(os.environ) == before[0] | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_CLIENT_MODE": "0"}
sys.stdin.readline()
"""

GUEST = """
import sys
from raylight.config.schema import RayConfig
from raylight.runs.ray_session import ray_session
with ray_session(RayConfig()):
    import ray
    assert ray.get_runtime_context().gcs_address == sys.argv[1]
    print(ray.get(ray.remote(lambda: 6 * 7).remote()))
"""

TWO_IN_A_ROW = """
import time
from raylight.config.schema import RayConfig
from raylight.runs.ray_session import ray_session
import ray
addresses = []
for _ in range(2):
    with ray_session(RayConfig(object_store_gb=0.1), cpus=1, close_in_background=True):
        addresses.append(ray.get_runtime_context().gcs_address)
        begun = time.monotonic()
    print(time.monotonic() - begun)
assert len(set(addresses)) == 2, "the second must not take over a session that ends"
"""


@pytest.mark.long
def test_a_session_that_ends_later_holds_up_the_next_one_and_nobody_else(tmp_path: Path) -> None:
    marked = os.environ | {"RAYLIGHT_TEST_MARK": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", TWO_IN_A_ROW], env=marked, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert max(map(float, done.stdout.split())) < 0.5, "the caller waited for the end"
    outlived = [process for process in psutil.process_iter() if has_mark(process, str(tmp_path))]
    _, alive = psutil.wait_procs(outlived, timeout=5)
    assert [process.cmdline()[:3] for process in alive] == []


def has_mark(process: psutil.Process, mark: str) -> bool:
    """Whether a process was started, by whomever, with that mark in its environment."""
    try:
        return process.environ().get("RAYLIGHT_TEST_MARK") == mark
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return False


def test_a_session_is_joined_left_alone_and_gone_afterwards(tmp_path: Path) -> None:
    """One process starts a session, another joins it; the first's home stays empty."""
    alone = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | {"HOME": str(tmp_path)}
    python = [sys.executable, "-c"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([*python, HOST], env=alone, **pipes) as host:
        address, token, folder = host.stdout.readline().split()
        children = psutil.Process(host.pid).children(recursive=True)
        assert len(children) > 3
        assert Path(folder).is_dir()

        invited = alone | {"RAY_ADDRESS": address, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token}
        guest = subprocess.run([*python, GUEST, address], env=invited, capture_output=True, text=True)
        assert guest.stdout == "42\n", guest.stderr

        print(file=host.stdin, flush=True)
        assert host.stdout.readline() == "1.0\n", "the session of another process must survive being joined"
        assert host.stdout.readline() == "closed\n"
        _, alive = psutil.wait_procs(children, timeout=5)
        assert [process.cmdline()[:3] for process in alive] == []
        assert not Path(folder).exists()
        _, errors = host.communicate("\n", timeout=10)
        assert (host.returncode, errors) == (0, "")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RayConfig(object_store_gb=0.01), r"ray\.object_store_gb=0\.01 is too small: .* decode=threads"),
        (RayConfig(object_store_gb=9e6), r"ray\.object_store_gb=9e\+06 doesn't fit into /dev/shm, .* --shm-size"),
        (RayConfig(address="127.0.0.1:9"), r"Can't join the Ray cluster at '127\.0\.0\.1:9': .*refused.*`ray status`"),
        (RayConfig(address="nonsense"), r"Can't join the Ray cluster at 'nonsense'"),
    ],
)
def test_what_can_not_work_is_said_at_once(config: RayConfig, message: str) -> None:
    if "/dev/shm" in message and not Path("/dev/shm").is_dir():
        pytest.skip("this system has no /dev/shm")
    begun = time.monotonic()
    with pytest.raises(RaylightError, match=message), ray_session(config):
        pass
    assert time.monotonic() - begun < 15
    assert "RAY_ADDRESS" not in os.environ
