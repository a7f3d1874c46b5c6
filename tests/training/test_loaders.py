"""Which images, or features, each epoch's batches are made of."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

from raylight.data.augment import Augmenter
from raylight.data.samples import Samples
from raylight.training.loaders import EpochLoaders, FeatureSources, Sampling
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
    return EpochLoaders(TRAIN, val, phases, sources(features), None, Sampling(5, 1, limit))


def sources(features: Any) -> FeatureSources:
    return FeatureSources(features, features)


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
    assert loaders((WHOLE,), sources(Features()), val=samples([], 3)).val_dataloader() == []


class Brighter:
    """Stands for a random change: adds the number of the epoch, plus one."""

    seed, transforms = 1, ()

    def __call__(self, picture: torch.Tensor, key: str, epoch: int) -> torch.Tensor:
        return picture + epoch + 1


def test_images_are_augmented_in_training_and_never_in_validation() -> None:
    augmenter: Any = Brighter()
    found = EpochLoaders(TRAIN, VAL, (WHOLE,), sources(Features()), augmenter, Sampling(12, 1))
    (batch,) = found.train_dataloader()
    plain = torch.from_numpy(TRAIN.store).permute(0, 3, 1, 2)
    assert torch.equal(batch.inputs, plain[batch.positions] + 1)
    assert batch.positions.tolist() != list(range(12))
    (batch,) = found.val_dataloader()
    assert torch.equal(batch.inputs, torch.from_numpy(VAL.store).permute(0, 3, 1, 2))


@pytest.mark.parametrize("views", [0, 3])
def test_features_are_of_augmented_views_where_there_are_any(views: int) -> None:
    asked: list[tuple[Any, int]] = []

    def features(images: Samples, stage: int, augmenter: Any, views: int) -> Samples:
        asked.append((augmenter, views))
        return Features()(images, stage, augmenter, views)

    augmenter: Any = Brighter()
    phase = dataclasses.replace(FROZEN, views=views)
    found = EpochLoaders(TRAIN, VAL, (phase,), sources(features), augmenter, Sampling(12, 1))
    (batch,) = found.train_dataloader()
    # What was augmented below the boundary isn't once more above it.
    assert batch.inputs[:, 0].tolist() == batch.positions.tolist()
    train, val = found.features_to_solve(phase)
    assert (len(train), len(val)) == (12, 4)
    assert asked == [(augmenter if views else None, views), (None, views)]


def test_what_an_earlier_phase_trains_is_not_computed_before_it() -> None:
    """The second phase is frozen up to a stage that the first one changes."""
    features = Features()
    phases = (Phase(0, 1, 2, 2, None, 1.0), Phase(1, 1, 3, 3, None, 1.0), Phase(2, 1, 2, 2, None, 1.0))
    loaders(phases, features).prepare()
    assert features.asked == [(12, 2), (4, 2), (12, 2), (4, 2)]


@pytest.mark.parametrize(
    ("batch_norm", "batch_size", "sizes"),
    [(False, 11, [11, 1]), (True, 11, [12]), (True, 10, [10, 2]), (True, 5, [5, 5, 2])],
)
def test_a_batch_of_one_is_joined_to_the_one_before_under_batch_norm(
    batch_norm: bool, batch_size: int, sizes: list[int]
) -> None:
    phase = dataclasses.replace(WHOLE, batch_norm=batch_norm)
    found = EpochLoaders(TRAIN, VAL, (phase,), sources(Features()), None, Sampling(batch_size, 1))
    assert [len(batch.targets) for batch in found.train_dataloader()] == sizes
    assert found.clock.batches == len(sizes)
    assert [len(batch.targets) for batch in found.val_dataloader()] == [4]


def test_a_weighted_sampler_evens_out_the_classes_of_train_alone() -> None:
    targets = [0] * 80 + [1] * 20
    phases = (Phase(0, 2, 0, 0, None, 1.0),)
    loaders = EpochLoaders(
        samples(targets, 1), samples(targets, 2), phases, sources(print), None, Sampling(10, 1, weighted=True)
    )  # type: ignore[arg-type]
    seen = torch.cat([batch.targets for batch in loaders.train_dataloader()])
    assert len(seen) == 100
    assert 25 <= int(seen.sum()) <= 75  # five standard deviations around a half
    assert torch.cat([batch.targets for batch in loaders.val_dataloader()]).tolist() == targets


def test_training_and_validation_have_features_of_their_own() -> None:
    train, val = Features(), Features()
    found = EpochLoaders(TRAIN, VAL, (FROZEN,), FeatureSources(train, val), None, Sampling(12, 1))
    found.features_to_solve(FROZEN)
    assert (train.asked, val.asked) == ([(12, 3)], [(4, 3)])
