"""Who works on a run is told by a lock: not by process numbers, host names or clocks."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from raylight.errors import RunError
from raylight.runs.run_dir import RunDir, recorded, state_of

WORKER = """
import sys, time
from pathlib import Path
from raylight.runs.run_dir import RunDir, recorded
run = RunDir(Path(sys.argv[1]))
with recorded(run) as status:
    try:
        print("begun", flush=True)
        time.sleep(30)
    finally:
        print("saving", flush=True)
        if sys.argv[2] == "slowly":
            time.sleep(30)
sys.exit(status.exit_code)
"""


def worker(run: RunDir, how: str = "quickly") -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WORKER, str(run.path), how], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir.claim(tmp_path / "run")


def test_only_one_process_works_on_a_run_and_a_kill_frees_it(run: RunDir) -> None:
    process = worker(run)
    assert state_of(run) == "running"
    with pytest.raises(RunError, match="still being trained by another process"), recorded(run):
        pytest.fail("two processes had one run")
    assert state_of(run) == "running"
    process.kill()
    process.communicate()
    assert json.loads((run / "status.json").read_text())["state"] == "running"
    assert state_of(run) == "interrupted"
    with recorded(run):
        assert state_of(run) == "running"
    assert state_of(run) == "finished"


@pytest.mark.parametrize(
    "lie", [{"pid": os.getpid()}, {"host": "another machine"}, {"process_started": 0.0}, {"pid": 1}]
)
def test_reused_numbers_new_host_names_and_set_clocks_mislead_nobody(run: RunDir, lie: dict[str, object]) -> None:
    process = worker(run)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, **lie}))
    assert state_of(run) == "running"
    process.kill()
    process.communicate()
    assert state_of(run) == "interrupted"


def test_looking_at_a_run_stops_nobody_from_beginning(run: RunDir) -> None:
    (run / "train.log").touch()
    code = (
        "import sys; from pathlib import Path; from raylight.storage.locks import is_locked\n"
        "while True: is_locked(Path(sys.argv[1]))"
    )
    watchers = [subprocess.Popen([sys.executable, "-c", code, str(run.path)]) for _ in range(2)]
    try:
        for _ in range(10):
            with recorded(run) as status:
                pass
            assert status.exit_code == 0
    finally:
        for watcher in watchers:
            watcher.kill()
            watcher.wait()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_a_second_one_ends_at_once(run: RunDir, signum: int, code: int) -> None:
    process = worker(run)
    process.send_signal(signum)
    assert process.wait(10) == code
    assert state_of(run) == "interrupted"
    process = worker(run, "slowly")
    process.send_signal(signum)
    assert process.stdout.readline() == "saving\n"
    begin = time.monotonic()
    process.send_signal(signum)
    assert process.wait(10) == code
    assert time.monotonic() - begin < 5
    assert state_of(run) == "interrupted"


def test_what_a_kill_left_unfinished_is_removed_by_the_next(run: RunDir) -> None:
    (run / ".metrics.json.abc123.tmp").write_text("half")
    run.folder("checkpoints").joinpath(".last.ckpt.abc.tmp").write_text("half")
    with recorded(run):
        pass
    assert not list(run.path.rglob(".*"))


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (OSError(28, "No space left on device", "/data/x"), "the disk is full (/data/x). Free disk space"),
        (MemoryError(), "there is not enough memory. Lower trainer.batch_size"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "not enough memory"),
    ],
)
def test_what_the_machine_lacks_is_said_in_a_sentence(
    run: RunDir, error: Exception, sentence: str, caplog: pytest.LogCaptureFixture
) -> None:
    with recorded(run) as status:
        raise error
    assert status.exit_code == 1
    assert sentence in (run / "train.log").read_text()
    assert "Traceback" not in (run / "train.log").read_text()
    assert "Traceback" in run.read_json("status.json")["traceback"]
    assert state_of(run) == "failed"


@pytest.mark.parametrize("part", [".", "checkpoints"])
def test_a_run_folder_that_is_moved_away_is_said_in_a_sentence(
    run: RunDir, part: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("ERROR", logger="raylight")
    with recorded(run) as status:
        run.folder("checkpoints")
        (run / part).rename(run.path.parent / "elsewhere")
        run.write_text("checkpoints/last.ckpt", "")
    assert status.exit_code == 1
    assert f"{run / 'checkpoints'} was removed or moved while the run wrote into it" in caplog.text
    assert "Traceback" not in caplog.text


def test_a_run_stopped_before_its_config_was_written_says_so(run: RunDir) -> None:
    with pytest.raises(RunError, match="stopped before its config was written"):
        RunDir.open(run.path)
