"""The run folder belongs to one run, its files appear whole, its status is true."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from experiments.reliability.faults import NotPermittedError, pluggable_disk
from PIL import Image

from raylight.config.schema import DataConfig
from raylight.data.index import Index, build_index
from raylight.data.sources.source import find_images
from raylight.errors import ConfigError, RunError
from raylight.evaluation.predictions import Predictions, read_csv, write_csv
from raylight.runs.run_dir import RunDir, recorded, state_of
from raylight.storage.atomic import write_atomically


def test_a_folder_is_claimed_once(tmp_path: Path) -> None:
    RunDir.claim(tmp_path / "run")
    with pytest.raises(RunError, match="belongs to another run"):
        RunDir.claim(tmp_path / "run")


def test_two_processes_never_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from raylight.runs.run_dir import RunDir\n"
        "from raylight.errors import RunError\n"
        "try: RunDir.claim(Path(sys.argv[1])); print('mine')\n"
        "except RunError: print('taken')"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "run")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert sorted(process.communicate()[0].strip() for process in processes) == ["mine", "taken", "taken", "taken"]


def test_opening_something_else_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"is not a run folder: it has no config\.yaml and no status\.json"):
        RunDir.open(tmp_path)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    path.write_text("old")
    limited = (
        "import resource, sys, signal; from pathlib import Path; from raylight.storage.atomic import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "write_atomically(Path(sys.argv[1]), b'x' * 5000)"
    )
    done = subprocess.run([sys.executable, "-c", limited, str(path)], capture_output=True, text=True, check=False)
    assert "File too large" in done.stderr
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.json"]


def test_numbers_that_json_lacks_become_null(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path / "run")
    run.write_json("metrics.json", {"test/auroc": {"value": float("nan"), "n": 3}})
    assert json.loads((run / "metrics.json").read_text()) == {"test/auroc": {"value": None, "n": 3}}


def test_the_status_tells_how_a_run_ended(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path / "finished")
    with recorded(run) as status:
        status.enter("training")
        assert state_of(run) == "running"
    assert (state_of(run), status.exit_code) == ("finished", 0)

    run = RunDir.claim(tmp_path / "mistake")
    with recorded(run) as status:
        raise ConfigError(["trainer.batch_size: too large"])
    assert status.exit_code == 2
    assert "too large" in run.read_json("status.json")["reason"]
    assert "Traceback" not in (run / "train.log").read_text()

    run = RunDir.claim(tmp_path / "broken")
    with recorded(run) as status:
        raise ZeroDivisionError("oops")
    assert status.exit_code == 1
    assert "ZeroDivisionError: oops" in run.read_json("status.json")["traceback"]
    assert "ZeroDivisionError: oops" in (run / "train.log").read_text()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_is_recorded_with_its_exit_code(signum: int, code: int, tmp_path: Path) -> None:
    before = signal.getsignal(signum)
    run = RunDir.claim(tmp_path / "run")
    with recorded(run) as status:
        os.kill(os.getpid(), signum)
        time.sleep(5)
    assert (status.exit_code, state_of(run)) == (code, "interrupted")
    assert signal.getsignal(signum) == before


def test_a_killed_run_is_not_running_any_more(tmp_path: Path) -> None:
    code = (
        "import sys, os, signal; from pathlib import Path; from raylight.runs.run_dir import RunDir, recorded\n"
        "with recorded(RunDir.claim(Path(sys.argv[1]))): os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], check=False)
    assert json.loads((tmp_path / "run" / "status.json").read_text())["state"] == "running"
    assert state_of(RunDir(tmp_path / "run")) == "interrupted"


def test_an_atomic_write_replaces(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"


@pytest.mark.parametrize("has_links", [True, False])
def test_a_second_name_keeps_its_content_when_the_first_gets_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_links: bool
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "this file system has no hard links")

    if not has_links:
        monkeypatch.setattr(Path, "hardlink_to", refused)
    run = RunDir.claim(tmp_path / "run")
    run.write_text("best", "epoch 1")
    for _ in range(2):  # the second time both names mean the same file already
        run.write_link("best", "last")
    assert ((run / "last").stat().st_ino == (run / "best").stat().st_ino) == has_links
    run.write_text("best", "epoch 2")
    assert ((run / "best").read_text(), (run / "last").read_text()) == ("epoch 2", "epoch 1")
    run.write_link("best", "last")
    assert (run / "last").read_text() == "epoch 2"
    assert not list(run.path.glob("*.tmp")) + list(run.path.glob(".*.tmp"))
    with pytest.raises(FileNotFoundError):
        run.write_link("missing", "other")


def test_what_a_finished_run_has_written_survives_a_power_cut(tmp_path: Path) -> None:
    """On a disk of its own, whose content is taken before the system has written back anything of its own accord."""
    (tmp_path / "pictures").mkdir()
    for number in range(4):
        pixels = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "pictures" / f"{('cat', 'dog')[number % 2]}.{number}.png")
    source = find_images(DataConfig(root=str(tmp_path / "pictures")), tmp_path)
    found = Predictions(("a.png",), ("test",), np.array([0]), np.array([[0.25, 0.75]]), ("cat", "dog"), "dog")
    try:
        with pluggable_disk(tmp_path / "disk", 16) as disk:
            run, cache = RunDir.claim(disk.place / "run"), disk.place / "cache"
            with recorded(run):
                index = build_index(source, cache, 1)
                index.write(run / "index.parquet")
                write_csv(found, run / "predictions.csv")
                write_atomically(run.folder("plots") / "loss.png", b"picture")
                run.write_json("metrics.json", {"test/accuracy": 1})
            thumbnails = np.array(index.thumbnails)
            del index
            disk.cut_power()
            assert state_of(run) == "finished"
            assert run.read_json("metrics.json") == {"test/accuracy": 1}
            assert (run / "plots" / "loss.png").read_bytes() == b"picture"
            assert read_csv(run / "predictions.csv").paths == ("a.png",)
            assert len(Index.read(run / "index.parquet")) == 4
            (kept,) = (cache / "index").glob("*.npy")
            assert np.array_equal(np.load(kept), thumbnails)
            assert not list(disk.place.rglob(".*.tmp"))
    except NotPermittedError as reason:
        pytest.skip(str(reason))
