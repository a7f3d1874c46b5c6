"""What a driver makes of its processes' messages, silence and deaths; over the pipes that they use, without the processes."""

import os
import pickle
from collections.abc import Callable, Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
import torch
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from pytorch_lightning.strategies import DDPStrategy

from raylight.errors import DataError, RunError
from raylight.runs.run_dir import RunDir
from raylight.training.distributed import local
from raylight.training.distributed.driver import Driver
from raylight.training.distributed.local import _joined, _listen, _sendable, _Worker
from raylight.training.messages import Ended, File, FinishedTraining

FINISHED = FinishedTraining(Path("there/best.ckpt"), 1, "val/loss", 0.5, 3, 9.0, 0.1)

Heard = Callable[[], FinishedTraining | None]


@pytest.fixture
def pipes() -> Iterator[tuple[list[Connection], list[Connection]]]:
    """Receivers and senders of three processes."""
    pairs = [Pipe(duplex=False) for _ in range(3)]
    receivers, senders = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    yield receivers, senders
    for one in (*receivers, *senders):
        one.close()


def heard(receivers: list[Connection], folder: Path) -> Driver:
    driver = Driver(RunDir.claim(folder / "run"), False)
    _listen(receivers, driver)
    return driver


def test_files_arrive_until_the_first_process_has_finished(
    pipes: tuple[list[Connection], list[Connection]], tmp_path: Path
) -> None:
    receivers, senders = pipes
    senders[1].send(Ended())  # of a process that isn't the first
    senders[0].send(File("history.csv", b"epoch\n"))
    senders[0].send(Ended(FINISHED))
    driver = heard(receivers, tmp_path)
    assert driver.finished is not None
    assert driver.finished.best_checkpoint == tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert (tmp_path / "run" / "history.csv").read_bytes() == b"epoch\n"


def test_a_process_that_dies_is_named_by_its_number(
    pipes: tuple[list[Connection], list[Connection]], tmp_path: Path
) -> None:
    receivers, senders = pipes
    senders[2].close()
    with pytest.raises(RunError, match=r"Training process 2 of 3 died \(out of memory, or killed\)"):
        heard(receivers, tmp_path)


def test_a_death_is_a_better_reason_than_what_the_others_say_of_it(
    pipes: tuple[list[Connection], list[Connection]], tmp_path: Path
) -> None:
    receivers, senders = pipes
    senders[0].send(Ended(error=RuntimeError("connection closed by peer")))
    senders[1].close()
    with pytest.raises(RunError, match="Training process 1 of 3 died"):
        heard(receivers, tmp_path)


def test_what_all_processes_say_is_raised_at_once(
    pipes: tuple[list[Connection], list[Connection]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE", 1e6)
    receivers, senders = pipes
    for number, sender in enumerate(senders):
        sender.send(Ended(error=DataError(f"no images in {number}")))
    with pytest.raises(DataError, match="no images in 0"):
        heard(receivers, tmp_path)


def test_what_one_process_says_is_raised_after_a_while(
    pipes: tuple[list[Connection], list[Connection]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "_GRACE", 0.05)
    receivers, senders = pipes
    senders[1].send(Ended(error=DataError("no images")))
    with pytest.raises(DataError, match="no images"):
        heard(receivers, tmp_path)


def test_an_error_travels_itself_or_as_its_text() -> None:
    error = DataError("no images")
    assert _sendable(error) is error

    class LocalError(Exception):
        """Can't be pickled: it has no name to be found by."""

    sent = _sendable(LocalError("bad"))
    assert (type(sent), str(sent)) == (RuntimeError, "LocalError: bad")
    assert str(pickle.loads(pickle.dumps(sent))) == "LocalError: bad"


def test_processes_meet_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A world of one."""
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    place = _joined(_Worker(0, 1, 1, "cpu", tmp_path, tmp_path / "run", None))
    try:
        assert (torch.distributed.get_rank(), torch.distributed.get_world_size()) == (0, 1)
        assert torch.distributed.get_backend() == "gloo"
    finally:
        torch.distributed.destroy_process_group()
    assert (os.environ["LOCAL_RANK"], os.environ["NODE_RANK"], os.environ["WORLD_SIZE"]) == ("0", "0", "1")
    assert (place.accelerator, place.devices) == ("cpu", 1)
    assert isinstance(place.strategy, DDPStrategy)
    assert isinstance(place.plugins[0], LightningEnvironment)
