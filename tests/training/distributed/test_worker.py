"""A training is pickled for other processes, which get its images by the name of their file and the driver's trial."""

import logging
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from raylight.config.schema import TrainerConfig
from raylight.cpu.settings import CpuSettings
from raylight.data.samples import Samples
from raylight.errors import DataError
from raylight.process import torch_threads
from raylight.runs.run_dir import RunDir
from raylight.training.callbacks.pruning import TRIAL_VARIABLE
from raylight.training.distributed.worker import train_share
from raylight.training.messages import LogLine, Message, Metrics
from raylight.training.trainer import Placement, Training
from tests.training.tiny import classifier, history, loaders_of, trained


def test_weights_and_trial_travel_and_mapped_images_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), np.uint8))
    store = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    images = Samples(store, np.arange(200), np.arange(200) % 2, ("key",) * 200)
    monkeypatch.setenv(TRIAL_VARIABLE, '{"number": 3}')
    learner = classifier()
    loaders = loaders_of(learner, images)
    training = Training(learner, loaders, TrainerConfig(), CpuSettings("32", False, 1, ""), tracked=False)
    pickled = training.pickled()
    assert len(pickled) < store.nbytes
    again: Training = pickle.loads(pickled)
    assert np.array_equal(again.loaders.train_images.store, store)
    state = learner.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.classifier.state_dict().items())
    assert dict(again.environment) == {TRIAL_VARIABLE: '{"number": 3}'}


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A world of one training process."""
    for name in ("OMP_NUM_THREADS", TRIAL_VARIABLE):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/meeting", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("tracked", [True, False])
@pytest.mark.usefixtures("alone")
def test_a_process_trains_as_one_alone_does_and_sends_its_log_and_metrics(tracked: bool, tmp_path: Path) -> None:
    learner = classifier()
    loaders = loaders_of(learner)
    config = TrainerConfig(max_epochs=2, progress="lines")
    environment = {"RAYLIGHT_TEST": "told"}
    training = Training(learner, loaders, config, CpuSettings("32", False, 8, ""), tracked, environment=environment)
    ours, sent = logging.getLogger("raylight"), list[Message]()
    before = (ours.level, ours.propagate, ours.handlers[:])
    run = RunDir.claim(tmp_path / "run")
    within: list[Any] = []

    def send(message: Message) -> None:
        within.append((os.environ["RAYLIGHT_TEST"], os.environ["OMP_NUM_THREADS"], torch.get_num_threads()))
        sent.append(message)

    with torch_threads(2):
        finished = train_share(training.pickled(), Placement(), run, None, 1, send)
        assert torch.get_num_threads() == 2
    assert (ours.level, ours.propagate, ours.handlers[:]) == before
    assert set(within) == {("told", "1", 1)}
    assert not {"RAYLIGHT_TEST", "OMP_NUM_THREADS"} & os.environ.keys()
    trained(tmp_path / "plain", classifier(), max_epochs=2)
    plain = history(tmp_path / "plain")
    assert [row["val/loss"] for row in history(tmp_path)] == [row["val/loss"] for row in plain]
    assert finished.epochs == 2
    lines = [message for message in sent if isinstance(message, LogLine)]
    assert [line.text[:9] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert {(line.logger, line.level) for line in lines} == {("raylight.training.trainer", logging.INFO)}
    told = [message for message in sent if isinstance(message, Metrics)]
    assert bool(told) == tracked
    if tracked:
        losses = [message.values["val/loss"] for message in told if "val/loss" in message.values]
        assert losses == pytest.approx([row["val/loss"] for row in plain], abs=1e-5)


class Missing:
    """Stands for images that a process can't see."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _cannot_see, ()


def _cannot_see() -> None:
    raise DataError("no images here")


@pytest.mark.usefixtures("alone")
def test_where_a_process_lacks_the_images_all_stop(tmp_path: Path) -> None:
    sent = list[Message]()
    with pytest.raises(DataError, match="no images here"):
        train_share(pickle.dumps(Missing()), Placement(), RunDir.claim(tmp_path / "run"), None, 1, sent.append)
    assert sent == []
