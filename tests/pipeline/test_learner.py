"""What the learner derives from the training images."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.utils.class_weight import compute_class_weight

from raylight.config.schema import FinetuneConfig, ModelConfig, PhaseConfig, RunConfig
from raylight.cpu.quantising import int8_supported
from raylight.cpu.settings import CpuSettings
from raylight.data.samples import Samples
from raylight.errors import ConfigError
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.pipeline.learner import _class_weights, certificates_of_int8, feature_store, suited
from raylight.training.features import FeatureStore
from raylight.training.phases import Phase
from tests.training.tiny import samples


def test_balanced_weights_are_scikit_learns() -> None:
    targets = [0] * 12 + [1] * 3 + [2] * 5
    config = OmegaConf.structured(RunConfig)
    config.loss.class_weights = "balanced"
    weights = _class_weights(config, samples(targets, 1), 3)
    assert weights.tolist() == pytest.approx(
        compute_class_weight("balanced", classes=np.arange(3), y=np.array(targets)).tolist()
    )


def certified(count: int, tmp_path: Path, groups: int = 0) -> dict[str, Any]:
    """The certificates of a tiny network on images of which one class is brighter."""
    model = ModelConfig(channels=[8], dense=[4], image_size=16)
    targets = np.arange(count) % 2
    pixels = np.random.default_rng(0).integers(0, 120, (count, 16, 16, 3), dtype=np.uint8)
    pixels[targets == 1] += 100
    val = Samples(pixels, np.arange(count), targets, tuple(f"hash{i}" for i in range(count)))
    group = [str(i % groups) if groups else None for i in range(count)]
    index: Any = SimpleNamespace(class_names=("a", "b"), in_split=lambda _: SimpleNamespace(column=lambda _: group))
    images: Any = SimpleNamespace(index=index, of=lambda _: val)
    torch.manual_seed(0)
    network, preprocessing = build_network(model, 2).eval(), Preprocessing.from_config(model)
    store = FeatureStore(tmp_path, "images", network, preprocessing, "fp32", 1, lambda done, total: None)
    stage = network.head_start
    return certificates_of_int8(images, (Phase(0, 1, stage, stage, None, 1.0),), store, store.in_int8(val))


def test_the_store_gets_the_nodes_of_network_and_augmentation(tmp_path: Path) -> None:
    config = RunConfig(model=ModelConfig(_target_="mine.Net", arguments={"power": 3}))
    config.augment.transforms = [{"_target_": "mine.Noise", "strength": 2}]
    images: Any = SimpleNamespace(key="images", preprocessing=None)
    network: Any = None
    store = feature_store(config, images, network, CpuSettings("32", False, 1, ""), tmp_path, lambda done, total: None)
    assert store.network_node == {"_target_": "mine.Net", "power": 3}
    assert store.transforms == [{"_target_": "mine.Noise", "strength": 2}]


@dataclass(frozen=True)
class NoGroups:
    """The part of an index in which each image is its own group."""

    count: int

    def __len__(self) -> int:
        return self.count

    def column(self, _: str) -> list[None]:
        return [None] * self.count


def recommended(
    count: int, tmp_path: Path, *, told_apart: bool, epochs: int | None = None, enough: float = 0.97
) -> RunConfig:
    """What trains on images of two classes that differ in brightness, or in nothing."""
    config = RunConfig(model=ModelConfig(channels=[8], dense=[], image_size=16, weights="file"))
    config.finetune = FinetuneConfig(
        phases=[PhaseConfig("head", solve=True, share=0.5), PhaseConfig("last_blocks", learning_rate=1e-4)],
        enough=enough,
        otherwise=[PhaseConfig("all")],
    )
    config.scheduler = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "_partial_": True, "T_max": None}
    config.trainer.max_epochs = epochs
    targets = np.arange(count) % 2
    pixels = np.random.default_rng(0).integers(0, 120, (count, 16, 16, 3), dtype=np.uint8)
    pixels[targets == 1] += 100 * told_apart
    train = Samples(pixels, np.arange(count), targets, tuple(f"hash{i}" for i in range(count)))
    index: Any = SimpleNamespace(class_names=("a", "b"), in_split=lambda _: NoGroups(count))
    images: Any = SimpleNamespace(
        index=index, of=lambda _: train, key="images", preprocessing=Preprocessing.from_config(config.model)
    )
    torch.manual_seed(0)
    network = build_network(replace(config.model, weights=None), 2).eval()
    return suited(config, images, network, tmp_path, lambda done, total: None)


@pytest.mark.parametrize(
    ("count", "told_apart", "epochs", "trained", "lasting"),
    [
        (200, True, None, ["head"], 1),  # a head on the features tells brightness
        (200, False, None, ["all"], 12),  # chance is wrong on about 100 of them
        (10, False, None, ["head"], 1),  # and on at most 10 here: too few
        (200, True, 5, ["head", "last_blocks"], 5),
        (200, False, 5, ["all"], 5),
    ],
)
def test_all_layers_train_where_a_linear_head_is_wrong_too_often(
    count: int, told_apart: bool, epochs: int | None, trained: list[str], lasting: int, tmp_path: Path
) -> None:
    decided = recommended(count, tmp_path, told_apart=told_apart, epochs=epochs)
    assert [phase.train_from for phase in decided.finetune.phases] == trained
    assert (decided.trainer.max_epochs, decided.scheduler["T_max"]) == (lasting, lasting)
    assert decided.finetune.enough is None  # a resumed run doesn't decide again


def test_one_error_more_than_is_enough_trains_all_layers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO", "raylight")

    def trained(enough: float) -> list[str]:
        decided = recommended(200, tmp_path, told_apart=False, enough=enough)
        return [phase.train_from for phase in decided.finetune.phases]

    assert trained(1.0) == ["all"]
    (wrong,) = map(int, re.findall(r"wrong on (\d+) of 200 images, each left out: more than 10,", caplog.text))
    assert trained(1 - wrong / 200) == ["head"]
    assert trained(1 - (wrong - 1) / 200) == ["all"]
    monkeypatch.setattr("raylight.pipeline.learner.MOST_WRONG", wrong - 1)
    assert trained(1.0) == ["all"]
    monkeypatch.setattr("raylight.pipeline.learner.MOST_WRONG", wrong)
    assert trained(1.0) == ["head"]


@pytest.mark.skipif(not int8_supported(), reason="this processor has no int8 instructions")
def test_int8_features_are_certified_on_validation_images(tmp_path: Path) -> None:
    (certificate,) = certified(300, tmp_path).values()
    assert (certificate["n"], certificate["difference"], certificate["shown"]) == (300, 0.0, True)
    assert certificate["low"] == pytest.approx(-0.0089, abs=2e-4)  # non_inferiority's example


@pytest.mark.parametrize(
    ("count", "groups", "told"),
    [
        (8, 0, "needs 5 validation images of each class, and one has 4"),
        (200, 0, "a loss of up to 1.3 isn't excluded .*268 validation images with as few"),
        (300, 100, "300 validation images .*isn't excluded"),
    ],
)
def test_too_few_validation_images_are_told_before_features_are_computed(
    count: int, groups: int, told: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=rf"finetune\.features_precision: .*{told}.*features_precision=auto"):
        certified(count, tmp_path, groups)
    assert not list(tmp_path.iterdir())
