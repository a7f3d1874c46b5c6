"""What is changed in the process is put back; a home is found where there is none."""

import contextlib
import os
import random
import socket
import stat
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raylight.process import (
    ensure_home,
    environment,
    flushed_denormals,
    random_numbers,
    set_variables,
    shorten_waits,
    socket_timeout,
    temporary_folder,
    torch_threads,
    use_one_thread,
)
from tests.forked import ROOT


def test_the_process_is_left_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYLIGHT_ONE", "before")
    monkeypatch.delenv("TMPDIR", raising=False)
    smallest = torch.full((), 5e-324, dtype=torch.float64)

    def state() -> tuple[Any, ...]:
        limits = torch.get_num_threads(), socket.getdefaulttimeout(), float(smallest * 1) > 0
        return dict(os.environ), tempfile.tempdir, *limits

    before = state()
    names = {"RAYLIGHT_ONE": "within", "RAYLIGHT_TWO": "within", "RAYLIGHT_THREE": None}

    def change() -> None:
        changes = temporary_folder(tmp_path), torch_threads(1), flushed_denormals(), socket_timeout(3.5)
        with environment(**names), contextlib.ExitStack() as stack:
            for one in changes:
                stack.enter_context(one)
            set_variables(RAYLIGHT_THREE="by others")
            assert (os.environ["RAYLIGHT_ONE"], os.environ["RAYLIGHT_TWO"]) == ("within", "within")
            assert Path(tempfile.mkdtemp()).parent == Path(os.environ["TMPDIR"]) == tmp_path
            assert (torch.get_num_threads(), socket.getdefaulttimeout(), float(smallest * 1)) == (1, 3.5, 0.0)
            raise KeyError

    with pytest.raises(KeyError):
        change()
    assert state() == before


def test_a_caller_draws_on_where_it_was_even_after_a_failure() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), float(np.random.random()), float(torch.rand(()))

    def seed() -> None:
        random.seed(3)
        np.random.seed(3)
        torch.manual_seed(3)

    def fail() -> None:
        with random_numbers():
            torch.manual_seed(1)
            np.random.seed(1)
            random.seed(1)
            raise KeyError

    seed()
    undisturbed = draw(), draw()
    seed()
    first = draw()
    with pytest.raises(KeyError):
        fail()
    assert (first, draw()) == undisturbed


def test_a_thread_of_ours_computes_alone_and_leaves_the_others_their_number() -> None:
    with torch_threads(2), ThreadPoolExecutor(1) as pool:
        with torch_threads():
            pool.submit(use_one_thread).result()
        assert pool.submit(torch.get_num_threads).result() == 1
        with ThreadPoolExecutor(1) as other:
            assert (torch.get_num_threads(), other.submit(torch.get_num_threads).result()) == (2, 2)


@pytest.mark.parametrize("home", [None, "/nonexistent"])
def test_a_user_without_a_home_gets_a_private_one(home: str | None, tmp_path: Path) -> None:
    """As a user whom the machine doesn't know, which takes the right to become one."""
    code = (
        "import os\n"
        "from raylight.process import ensure_home\n"
        "if os.getuid() == 0: os.setuid(54321)\n"
        "ensure_home(); print(os.environ['HOME'], os.path.expanduser('~'))"
    )
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents[:3]:  # one more in a suite of several processes
        parent.chmod(parent.stat().st_mode | 0o055)
    environment = {name: value for name, value in os.environ.items() if name != "HOME"} | {"TMPDIR": str(tmp_path)}
    environment |= {"HOME": home} if home else {}
    if home is None and os.getuid():
        pytest.skip("this user has a home in the system's list of users")
    run = [sys.executable, "-c", code]
    for _ in range(2):  # the second time it is there already
        done = subprocess.run(run, env=environment, capture_output=True, text=True, check=True)
        first, second = done.stdout.split()
        assert first == second
        assert Path(first).parent == tmp_path
        assert stat.S_IMODE(Path(first).stat().st_mode) == 0o700


def test_a_home_that_can_be_written_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    ensure_home()
    assert os.environ["HOME"] == str(tmp_path)


def test_commands_shorten_the_waiting_of_torchs_threads_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    for given, kept in ((None, "1000"), ("0", "0")):
        monkeypatch.delenv("GOMP_SPINCOUNT") if given is None else monkeypatch.setenv("GOMP_SPINCOUNT", given)
        shorten_waits()
        assert os.environ["GOMP_SPINCOUNT"] == kept
    script = (
        "import sys, os, runpy\n"
        "sys.argv = ['train.py', '--cfg', 'job']\n"
        "try:\n    runpy.run_path('train.py', run_name='__main__')\n"
        "except SystemExit:\n    pass\n"
        "print(os.environ['GOMP_SPINCOUNT'], 'torch' in sys.modules)"
    )
    bare = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, env=bare, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "1000 False"  # in time: torch isn't imported yet


ENDINGS = """
import atexit, logging, sys, threading, time
from raylight.process import ending_at_once

class Garbage:
    def __del__(self):
        print("taken apart", flush=True)

kept = Garbage()
with ending_at_once():
    atexit.register(print, "atexit")
    threading.Thread(target=lambda: (time.sleep(0.1), print("thread"))).start()
    {ending}
"""


@pytest.mark.parametrize(
    ("ending", "code", "said"),
    [
        ("sys.exit()", 0, ["thread", "atexit"]),
        ("sys.exit(3)", 3, ["thread", "atexit"]),
        ("sys.exit('no such thing')", 1, ["thread", "atexit", "taken apart"]),
        ("1 / 0", 1, ["thread", "atexit", "taken apart"]),
    ],
)
def test_a_process_ends_at_once_after_its_threads_and_exit_functions(ending: str, code: int, said: list[str]) -> None:
    program = ENDINGS.replace("{ending}", ending)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout.split("\n")) == (code, [*said, ""])
    assert ("no such thing" in done.stderr) == ("no such" in ending)
    assert ("ZeroDivisionError" in done.stderr) == ("/ 0" in ending)


def test_output_that_cannot_be_written_is_reported_as_ever() -> None:
    """120 is Python's own exit code for it."""
    program = (
        "import os, sys\nfrom raylight.process import ending_at_once\nwith ending_at_once():\n    print(1); sys.exit(0)"
    )
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered)
    assert done.returncode == 120
    assert "No space left" in done.stderr
