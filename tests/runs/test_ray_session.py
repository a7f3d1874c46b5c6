"""A Ray session starts, is shared, can be joined, and leaves nothing behind."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from raylight.config.schema import RayConfig
from raylight.errors import RaylightError
from raylight.runs import ray_session as module
from raylight.runs.ray_session import ray_session

HOST = """
import sys
from raylight.config.schema import RayConfig
from raylight.runs.ray_session import ray_session
with ray_session(RayConfig(object_store_gb=0.1), cpus=1):
    import ray
    with ray_session(RayConfig(address="nonsense")):
        pass
    assert ray.is_initialized(), "an inner use must not close the outer session"
    node = ray._private.worker._global_node
    print(ray.get_runtime_context().gcs_address, node.get_temp_dir_path(), flush=True)
    sys.stdin.readline()
    print(ray.cluster_resources()["CPU"], flush=True)
assert not ray.is_initialized()
sys.stdin.readline()
"""


def test_a_session_is_joined_left_alone_and_gone_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    with subprocess.Popen(
        [sys.executable, "-c", HOST], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as host:
        assert host.stdin
        assert host.stdout
        address, folder = host.stdout.readline().split()
        children = psutil.Process(host.pid).children(recursive=True)
        assert len(children) > 3
        assert Path(folder).is_dir()

        monkeypatch.setenv("RAY_ADDRESS", address)
        with ray_session(RayConfig()):
            assert ray.get_runtime_context().gcs_address == address
        assert not ray.is_initialized()

        print(file=host.stdin, flush=True)
        assert host.stdout.readline() == "1.0\n", "the session of another process must survive being joined"
        _, alive = psutil.wait_procs(children, timeout=10)
        assert [process.cmdline()[:3] for process in alive] == []
        assert not Path(folder).exists()
        host.communicate("\n", timeout=10)
        assert host.returncode == 0


def test_what_a_killed_process_left_is_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "_LONGEST_FOLDER", 1000)
    names = "raylight-ray-left", "raylight-ray-used", "raylight-ray-fresh", "other"
    left, used, fresh, other = (tmp_path / name for name in names)
    for folder in (left, used, fresh, other):
        folder.mkdir()
    with FileLock(used / "in-use.lock"):
        for folder in (left, used, other):
            os.utime(folder, (0, 0))
        with module._session_folder() as own:
            assert own.parent == tmp_path
            assert sorted(tmp_path.iterdir()) == sorted([own, used, fresh, other])
    assert sorted(tmp_path.iterdir()) == sorted([used, fresh, other])


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (RayConfig(object_store_gb=0.01), r"ray\.object_store_gb=0\.01 is too small: .* decode=threads"),
        (RayConfig(object_store_gb=9e6), r"ray\.object_store_gb=9e\+06 does not fit into /dev/shm, .* --shm-size"),
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
