"""What a process keeps in the system's temporary folder goes with it, or with the next one; nothing else is touched."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from raylight.storage import scratch
from raylight.storage.scratch import scratch_folder

TRACKED = """
import os, signal, sys
from pathlib import Path
from raylight.config.schema import LoggerConfig
from raylight.runs.tracking import tracking
run = Path(sys.argv[1])
for job in range(2):  # both jobs of a sweep have one service
    with tracking(LoggerConfig(mode="offline"), run / str(job), {}, []) as tracker:
        tracker.images({"dot": Path(sys.argv[2])})
        tracker.table("table", ["picture"], lambda: [[__import__("numpy").zeros((4, 4, 3), "uint8")]])
        if sys.argv[3] == "killed" and job == 1:
            os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "t"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setattr(scratch, "_LONGEST_PARENT", 1000)
    return folder


def test_only_what_is_ours_and_abandoned_is_removed(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("raylight-x-left", "raylight-x-used", "raylight-x-fresh", "raylight-y-other", "tmp1234", "raylight-x-link")
    left, used, fresh, other, strange, link = (parent / name for name in names)
    outside = parent.parent / "outside"
    for folder in (left, used, fresh, other, strange, outside):
        folder.mkdir()
        (folder / "content").touch()
    link.symlink_to(outside)
    with FileLock(used / "in-use.lock"):
        for folder in (left, used, other, strange, outside):
            os.utime(folder, (0, 0))
        with scratch_folder("x", min_age=30) as own:
            assert own.stat().st_mode & 0o777 == 0o700
            assert sorted(parent.iterdir()) == sorted([own, used, fresh, other, strange, link])
    assert (outside / "content").is_file()
    os.utime(fresh, (0, 0))
    monkeypatch.setattr(os, "getuid", lambda: 12345)  # another user's, who may be root
    with scratch_folder("x", min_age=30):
        pass
    assert sorted(parent.iterdir()) == sorted([used, fresh, other, strange, link])


def test_wandb_leaves_nothing_and_what_a_kill_leaves_goes_with_the_next(tmp_path: Path) -> None:
    """A killed W&B leaves pictures and sockets; a folder of the system's own is what ``TMPDIR`` names."""
    from PIL import Image

    Image.new("RGB", (8, 8)).save(tmp_path / "dot.png")
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp") as system:

        def track(name: str, how: str) -> int:
            environment = {**os.environ, "TMPDIR": system, "WANDB_MODE": "offline"}
            words = [str(tmp_path / name), str(tmp_path / "dot.png"), how]
            done = subprocess.run(
                [sys.executable, "-c", TRACKED, *words], env=environment, capture_output=True, text=True
            )
            assert not done.stderr, done.stderr  # nothing that W&B was not told
            return done.returncode

        (Path(system) / "tmpabcwandb-media").mkdir()  # somebody else's
        assert track("first", "killed") == -signal.SIGKILL
        (left,) = Path(system).glob("raylight-wandb-*")
        assert list(left.glob("*wandb-media/*"))
        assert sorted(Path(system).iterdir()) == sorted([left, Path(system) / "tmpabcwandb-media"])
        os.utime(left, (0, 0))
        assert track("second", "whole") == 0
        assert [entry.name for entry in Path(system).iterdir()] == ["tmpabcwandb-media"]
        assert len(list((tmp_path / "second").glob("*/wandb/offline-run-*/files/media/images/plots/*.png"))) == 2
