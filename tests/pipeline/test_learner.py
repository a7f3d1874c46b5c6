"""What the learner derives from the training images."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from sklearn.utils.class_weight import compute_class_weight

from raylight.config.schema import ModelConfig, RunConfig
from raylight.cpu.quantising import int8_supported
from raylight.data.samples import Samples
from raylight.errors import ConfigError
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.pipeline.learner import _class_weights, certificates_of_int8
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
