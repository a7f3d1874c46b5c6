"""The exported module: its outputs against the run's own predictor."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raylight.models.familiarity import Familiarity, distances, unit_vectors
from raylight.serving.exports.network import ServedNetwork
from raylight.serving.predictor import Predictor

Untrained = Callable[..., Path]


def computed(network: ServedNetwork, images: np.ndarray) -> dict[str, np.ndarray]:
    with torch.inference_mode():
        found = network.eval()(torch.from_numpy(images))
    return {name: values.numpy() for name, values in zip(network.outputs, found, strict=True)}


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("model", [{"head": "sigmoid"}, {"normalize": "imagenet", "batch_norm": True}])
def test_prepared_images_get_the_runs_probabilities(untrained: Untrained, model: dict[str, object]) -> None:
    predictor = Predictor.open(untrained(("a", "b"), temperature=0.3, **model), precision="fp32")
    images = noise(5, 24, 24, 3)
    found = computed(ServedNetwork(predictor, None), images)
    assert list(found) == ["probabilities"]
    np.testing.assert_allclose(found["probabilities"], predictor.probabilities(images), atol=1e-5)


def test_images_of_any_size_get_the_probabilities_of_the_pixels_that_the_network_sees(untrained: Untrained) -> None:
    predictor = Predictor.open(untrained(("a", "b", "c"), resize="crop"), precision="fp32")
    found = computed(ServedNetwork(predictor, "cykooz"), noise(2, 61, 40, 3))
    assert list(found) == ["probabilities", "pixels"]
    assert (found["pixels"].shape, found["pixels"].dtype) == ((2, 24, 24, 3), np.uint8)
    np.testing.assert_allclose(found["probabilities"], predictor.probabilities(found["pixels"]), atol=1e-5)


def test_the_distance_is_that_by_which_the_run_refuses_unknown_images(untrained: Untrained) -> None:
    predictor = Predictor.open(untrained(("a", "b")), precision="fp32")
    images = noise(6, 24, 24, 3)
    features = predictor._body(images)
    familiarity = Familiarity(unit_vectors(features[:4]), neighbours=2, limit=0.1)
    found = computed(ServedNetwork(replace(predictor, familiarity=familiarity), None), images)
    assert list(found) == ["probabilities", "distance"]
    # A difference of 1e-7 in a product is one of 5e-4 in a distance of 0.
    np.testing.assert_allclose(found["distance"], distances(familiarity.features, features, 2), atol=1e-3)
    assert found["distance"][4:].min() > 0.01
