"""Which images, or features, each epoch's batches are made of."""

from typing import Any

import numpy as np
import pytest
import torch

from raylight.data.augment import Augmenter
from raylight.data.samples import Samples
from raylight.training.loaders import EpochLoaders
from raylight.training.phases import Phase
from tests.training.tiny import samples

TRAIN, VAL = samples([0, 1] * 6, 1), samples([0, 1] * 2, 2)
FROZEN, WHOLE = Phase(0, 2, 3, 3, None, 1.0), Phase(2, 4, 0, 0, None, 1.0)


class Features:
    """Makes features that can be told apart, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def __call__(self, images: Samples, stage: int, augmenter: Augmenter | None, views: int) -> Samples:
        self.asked.append((len(images), stage))
        store = np.repeat(images.rows[:, None], 4, axis=1).astype(np.float32)
        return Samples(store, np.arange(len(images)), images.targets, images.keys)


def loaders(phases: tuple[Phase, ...], features: Any, val: Samples = VAL, limit: int | None = None) -> EpochLoaders:
    return EpochLoaders(TRAIN, val, phases, features, None, 5, 1, limit)


def test_below_a_frozen_boundary_features_are_computed_once_for_all_epochs() -> None:
    features = Features()
    found = loaders((FROZEN, WHOLE), features)
    found.prepare()
    assert features.asked == [(12, 3), (4, 3)]
    batches = list(found.train_dataloader())
    assert batches[0].inputs.shape[1:] == (4,)
    assert sorted(torch.cat([batch.positions for batch in batches]).tolist()) == list(range(12))
    found.val_dataloader()
    assert len(features.asked) == 2


def test_images_are_trained_on_where_nothing_is_frozen_at_most_as_many_batches_as_allowed() -> None:
    found = loaders((WHOLE,), lambda *_: pytest.fail("nothing is frozen"), limit=2)
    found.prepare()
    batches = list(found.train_dataloader())
    assert [tuple(batch.inputs.shape) for batch in batches] == [(5, 3, 16, 16)] * 2


def test_validation_keeps_its_order_and_is_left_out_where_nothing_is_held_out() -> None:
    found = list(loaders((WHOLE,), Features()).val_dataloader())
    assert torch.cat([batch.positions for batch in found]).tolist() == [0, 1, 2, 3]
    assert loaders((WHOLE,), Features(), val=samples([], 3)).val_dataloader() == []
