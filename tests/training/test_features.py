"""Frozen layers are computed once, and training on their outputs is the same training."""

import copy
import functools
import pickle
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn
from torchvision.transforms import v2

from raylight.config.schema import FinetuneConfig, LossConfig, ModelConfig, PhaseConfig
from raylight.cpu.quantising import int8_supported
from raylight.data.augment import Augmenter
from raylight.data.batches import Batches, Batching, Order
from raylight.data.samples import Samples
from raylight.errors import ConfigError
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.training.features import FeatureStore
from raylight.training.loaders import EpochLoaders, FeatureSources, Sampling
from raylight.training.losses import Loss
from raylight.training.module import Classifier, Task
from raylight.training.optimization import Optimization
from raylight.training.phases import TrainingPlan, describe_views, plan_phases

MODEL = ModelConfig(name="mobilenet_v2", family="torchvision", image_size=64, normalize="imagenet")


def images(n: int = 24) -> Samples:
    pixels = np.random.default_rng(1).integers(0, 256, (n, 64, 64, 3), dtype=np.uint8)
    return Samples(pixels, np.arange(n), np.arange(n) % 2, tuple(f"hash{i}" for i in range(n)))


def network() -> StagedNetwork:
    return copy.deepcopy(_network())


@functools.cache
def _network() -> StagedNetwork:
    """Random weights, but BatchNorm statistics of the data: else the signal fades away below the head."""
    torch.manual_seed(0)
    net = build_network(MODEL, 2)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all passes; else the start value drowns the signal of deep layers
    with torch.no_grad():
        net.train()(Preprocessing.from_config(MODEL).normalise(torch.from_numpy(images().store)))
    return net


def store(folder: Path, net: StagedNetwork) -> FeatureStore:
    return FeatureStore(folder, "images", net, Preprocessing.from_config(MODEL), "fp32", 2, lambda done, total: None)


def losses(train_from: str, cache: bool, folder: Path, augmenter: Augmenter | None) -> list[float]:
    """Six steps of training in two epochs, from features or from images."""
    net, data = network(), images()
    phases = plan_phases(
        net, FinetuneConfig(phases=[PhaseConfig(train_from=train_from)], cache=cache), 2, "features.17"
    )
    classifier = Classifier(
        net,
        Preprocessing.from_config(MODEL),
        TrainingPlan(
            phases, Optimization({"_target_": "torch.optim.SGD", "lr": 1e-4}, None, per_phase=False), Loss(LossConfig())
        ),
        Task(2, 1),
        channels_last=True,
        seed=1,
    )
    stage = phases[0].input_stage
    assert (stage > 0) == cache
    inputs = store(folder, net).features(data, stage, augmenter, phases[0].views) if cache else data
    optimizer = classifier.configure_optimizers()
    classifier.train()
    found = []
    for epoch in range(2):
        order = Order(1, epoch, shuffle=True)
        for batch in Batches(inputs, Batching(8), order, augmenter=None if cache else augmenter):
            loss = torch.nn.functional.cross_entropy(classifier(batch.inputs), batch.targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
    return found


@pytest.mark.parametrize("transforms", [(), (v2.RandomAffine(30),)], ids=["plain", "augmented"])
@pytest.mark.parametrize("train_from", ["head", "last_blocks"])
def test_cached_and_recomputed_training_have_the_same_losses(
    train_from: str, transforms: tuple[v2.Transform, ...], tmp_path: Path
) -> None:
    augmenter = Augmenter(transforms, seed=1)
    cached, recomputed = (losses(train_from, cache, tmp_path, augmenter) for cache in (True, False))
    assert cached == pytest.approx(recomputed, abs=1e-4)
    assert len(set(cached)) > 1


def test_frozen_layers_do_not_change(tmp_path: Path) -> None:
    """Neither weights nor BatchNorm's statistics, whatever train() is called."""
    net = network()
    before = {name: value.clone() for name, value in net.state_between(0, net.head_start).items()}
    phases = plan_phases(net, FinetuneConfig(phases=[PhaseConfig(train_from="head")], cache=False), 1, None)
    plan = TrainingPlan(
        phases, Optimization({"_target_": "torch.optim.Adam"}, None, per_phase=False), Loss(LossConfig())
    )
    classifier = Classifier(net, Preprocessing.from_config(MODEL), plan, Task(2, 1), channels_last=True, seed=1)
    optimizer = classifier.configure_optimizers()
    classifier.train()
    for batch in Batches(images(), Batching(8)):
        torch.nn.functional.cross_entropy(classifier(batch.inputs), batch.targets).backward()
        optimizer.step()
    after = net.state_between(0, net.head_start)
    assert all(torch.equal(after[name], value) for name, value in before.items())
    assert any(parameter.grad is not None for parameter in net.parameters())


def test_rows_that_are_there_are_not_computed_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "raylight")
    net, data = network(), images()
    computed: list[int] = []

    def features(part: Samples) -> Samples:
        counting = FeatureStore(
            tmp_path,
            "images",
            net,
            Preprocessing.from_config(MODEL),
            "fp32",
            1,
            lambda done, total: computed.append(done),
        )
        return counting.features(part, net.head_start, None)

    half = Samples(data.store, data.rows[:12], data.targets[:12], data.keys[:12])
    first = features(half)
    whole = features(data)
    assert computed == [12, 12]
    assert np.array_equal(whole.store[whole.rows[:12]], first.store[first.rows])
    features(data)
    assert computed == [12, 12]
    told = [line for line in caplog.messages if line.startswith("Computed the frozen layers below ")]
    assert [line.partition(" for ")[2].partition(":")[0] for line in told] == ["12 images, once"] * 2


def test_a_damaged_store_is_computed_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    net, data = network(), images(4)
    first = np.array(store(tmp_path, net).features(data, net.head_start, None).store)
    (file,) = tmp_path.glob("*/features.npy")
    file.write_bytes(file.read_bytes()[:200])
    again = store(tmp_path, net).features(data, net.head_start, None)
    assert "damaged" in caplog.text
    assert np.array_equal(again.store, first)


def test_other_weights_have_other_features(tmp_path: Path) -> None:
    net, data = network(), images(4)
    first = np.array(store(tmp_path, net).features(data, net.head_start, None).store)
    with torch.no_grad():
        next(net.parameters()).normal_()
    second = store(tmp_path, net).features(data, net.head_start, None).store
    assert not np.allclose(first, second)


def test_a_network_trained_since_has_features_of_its_own(tmp_path: Path) -> None:
    """As between two phases that begin at the same stage, with one between them that trains all layers."""
    net, data = network(), images(4)
    kept = store(tmp_path, net)
    first = np.array(kept.features(data, net.head_start, None).store)
    with torch.no_grad():
        next(net.parameters()).mul_(2.0)
        expected = net.eval().run(
            Preprocessing.from_config(MODEL).normalise(torch.from_numpy(data.store)), 0, net.head_start
        )
    second = kept.features(data, net.head_start, None).store
    assert np.allclose(second, expected, atol=1e-3)
    assert not np.allclose(first, expected, atol=1e-3)


def test_arguments_that_no_repr_shows_have_features_of_their_own(tmp_path: Path) -> None:
    """torchvision's RandomApply shows its transforms, but not their probability."""
    net, data = network(), images(4)
    found = []
    for p in (0.0, 1.0):
        augmenter = Augmenter([v2.RandomApply([v2.RandomInvert(p=1.0)], p=p)], seed=1)
        transforms = [{"_target_": "torchvision.transforms.v2.RandomApply", "p": p}]
        part = replace(store(tmp_path, net), transforms=transforms).features(data, net.head_start, augmenter, views=2)
        found.append(np.array(part.store[part.rows]))
    assert not np.allclose(*found)
    for power in (1, 3):
        node = {"_target_": "my_package.nets.Tiny", "power": power}
        replace(store(tmp_path, net), network_node=node).features(data, net.head_start, None)
    assert len(list(tmp_path.glob("*/features.npy"))) == 4
    sent = pickle.loads(pickle.dumps(replace(store(tmp_path, net), network_node=node)))
    sent.features(data, net.head_start, None)
    replace(store(tmp_path, net), transforms=transforms).features(data, net.head_start, None)  # not augmented: a fifth
    replace(store(tmp_path, net), transforms=[]).features(data, net.head_start, None)
    assert len(list(tmp_path.glob("*/features.npy"))) == 5


def test_each_view_is_an_augmented_picture(tmp_path: Path) -> None:
    net, data = network(), images(4)
    augmenter = Augmenter([v2.RandomAffine(30)], seed=1)
    found = store(tmp_path, net).features(data, net.head_start, augmenter, views=3)
    assert found.rows.shape == (4, 3)
    assert len(np.unique(found.store[found.rows[0]], axis=0)) == 3
    picture = augmenter(torch.from_numpy(data.store[0]).permute(2, 0, 1), data.keys[0], 2)
    with torch.no_grad():
        expected = net.eval().run(Preprocessing.from_config(MODEL).normalise(picture[None]), 0, net.head_start)
    assert np.allclose(found.store[found.rows[0, 2]], expected[0], atol=1e-4)


class Remembering(nn.Module):
    """A transform that is safe in one thread alone: it keeps a picture between two steps."""

    def forward(self, picture: torch.Tensor) -> torch.Tensor:
        self.kept = torch.full_like(picture, int(picture.float().mean()))
        time.sleep(0.001)
        return self.kept


def test_views_are_made_in_the_threads_that_compute_them_each_by_its_own_transforms(tmp_path: Path) -> None:
    net, data = network(), images(24)
    augmenter = Augmenter([v2.ColorJitter(brightness=(0.1, 3.0)), Remembering()], seed=1)
    found = store(tmp_path, net).features(data, net.head_start, augmenter, views=2)
    for image in range(24):
        picture = torch.from_numpy(data.store[image]).permute(2, 0, 1)
        seen = torch.stack([augmenter(picture, data.keys[image], view) for view in range(2)])
        with torch.no_grad():
            expected = net.eval().run(Preprocessing.from_config(MODEL).normalise(seen), 0, net.head_start)
        assert np.allclose(found.store[found.rows[image]], expected, atol=1e-4)


@pytest.mark.parametrize(
    ("views", "epochs", "expected", "told"),
    [
        (None, [4, 3], (4, 3), "4 augmented views and then 3 augmented views per image, one per epoch in turn"),
        (None, [25], (10,), "10 augmented views per image, one per epoch in turn"),
        (2, [25], (2,), "2 augmented views per image, one per epoch in turn"),
        (1, [25], (1,), "1 augmented view per image, the same in every epoch"),
        (None, [1], (1,), "1 augmented view per image, one per epoch in turn"),
        (0, [25], (0,), "the images as they are; augmentation is left out"),
    ],
)
def test_the_number_of_views_follows_the_epochs(
    views: int | None, epochs: list[int], expected: tuple[int, ...], told: str
) -> None:
    recipe = FinetuneConfig(phases=[PhaseConfig("head", length) for length in epochs], views=views)
    phases = plan_phases(network(), recipe, sum(epochs), None)
    assert tuple(phase.views for phase in phases) == expected
    assert told in (describe_views(phases) or "")


@pytest.mark.parametrize(("views", "turns"), [(None, [0, 1, 2, 0]), (2, [0, 1, 0, 1]), (0, [None] * 4)])
def test_an_epoch_sees_its_own_view_and_validation_none(
    views: int | None, turns: list[int | None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four epochs and at most three views; each epoch's features are those of the picture augmented for its turn."""
    monkeypatch.setattr("raylight.training.phases.MOST_VIEWS", 3)
    net, data = network(), images(4)
    phases = plan_phases(net, FinetuneConfig(phases=[PhaseConfig("head")], views=views), 4, None)
    augmenter = Augmenter([v2.ColorJitter(brightness=(0.1, 3.0))], seed=1)
    val = Samples(data.store, data.rows[2:], data.targets[2:], data.keys[2:])
    loaders = EpochLoaders(
        data, val, phases, FeatureSources(*[store(tmp_path, net).features] * 2), augmenter, Sampling(4, 1)
    )
    loaders.trainer = pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    net.eval()

    def features(position: int, turn: int | None) -> torch.Tensor:
        picture = torch.from_numpy(data.store[position]).permute(2, 0, 1)
        changed = picture if turn is None else augmenter(picture, data.keys[position], turn)
        with torch.no_grad():
            return net.run(Preprocessing.from_config(MODEL).normalise(changed[None]), 0, phases[0].input_stage)[0]

    for epoch, turn in enumerate(turns):
        loaders.trainer.fit_loop.epoch_progress.current.completed = epoch
        for batches, first, seen in ((loaders.train_dataloader(), 0, turn), (loaders.val_dataloader(), 2, None)):
            (batch,) = batches
            expected = torch.stack([features(first + int(position), seen) for position in batch.positions])
            assert torch.allclose(batch.inputs, expected, atol=1e-4), (epoch, seen)
    assert all((features(0, turn) - features(0, 0)).abs().max() > 1e-2 for turn in (None, 1, 2))


@pytest.mark.skipif(not int8_supported(), reason="this processor has no int8 instructions")
def test_features_in_int8_are_others_and_depend_on_the_images_that_calibrate(tmp_path: Path) -> None:
    net, data = network(), images()
    exact = store(tmp_path, net)
    dark = Samples(data.store // 8, data.rows, data.targets, tuple(f"dark{i}" for i in range(len(data))))
    found = {}
    for name, each in {"exact": exact, "int8": exact.in_int8(data), "dark": exact.in_int8(dark)}.items():
        found[name] = np.array(each.features(data, 3, None).store)
    assert len(list(tmp_path.glob("*/features.npy"))) == 3
    deviation = found["exact"].std()
    assert 0 < np.abs(found["int8"] - found["exact"]).mean() < 0.1 * deviation
    assert not np.allclose(found["int8"], found["dark"])
    sent = pickle.loads(pickle.dumps(exact.in_int8(data)))
    assert np.array_equal(sent.features(data, 3, None).store, found["int8"])
    assert len(list(tmp_path.glob("*/features.npy"))) == 3


@pytest.mark.skipif(not int8_supported(), reason="this processor has no int8 instructions")
def test_a_network_that_int8_can_not_begin_is_named(tmp_path: Path) -> None:
    net = StagedNetwork(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 4, 3)).eval(), ["0", "1"], 1)
    with pytest.raises(ConfigError, match=r"finetune\.features_precision: int8, but the network doesn't begin with"):
        store(tmp_path, net).in_int8(images(4)).features(images(4), 1, None)
