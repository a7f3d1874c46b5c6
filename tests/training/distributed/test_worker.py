"""A training is packed for other processes, which get its images by the name of their file and the driver's trial."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from raylight.config.schema import TrainerConfig
from raylight.cpu.settings import CpuSettings
from raylight.data.samples import Samples
from raylight.training.callbacks.pruning import TRIAL_VARIABLE
from raylight.training.distributed.worker import Training
from raylight.training.loaders import EpochLoaders
from tests.training.tiny import PHASES, VAL, classifier


def test_weights_and_trial_travel_and_mapped_images_go_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "pixels.npy", np.random.default_rng(0).integers(0, 256, (200, 16, 16, 3), np.uint8))
    store = np.load(tmp_path / "pixels.npy", mmap_mode="r")
    images = Samples(store, np.arange(200), np.arange(200) % 2, ("key",) * 200)
    monkeypatch.setenv(TRIAL_VARIABLE, '{"number": 3}')
    learner = classifier()
    loaders = EpochLoaders(images, VAL, PHASES, print, None, 7, 1, None)  # type: ignore[arg-type]
    training = Training(learner, loaders, TrainerConfig(), CpuSettings("32", False, 1, ""), tracked=False)
    packed = training.packed()
    assert len(packed) < store.nbytes
    again: Training = pickle.loads(packed)
    assert np.array_equal(again.loaders.train_images.store, store)
    state = learner.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in again.classifier.state_dict().items())
    assert dict(again.environment) == {TRIAL_VARIABLE: '{"number": 3}'}
