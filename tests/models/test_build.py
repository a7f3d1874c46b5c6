"""From a config to a network: its weights, its head, and a logit for each class."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.special import softmax
from torch import nn

from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError, WeightsError
from raylight.models.build import build_network, class_logits, class_probabilities
from raylight.models.depthwise import Depthwise


def test_convnets_load_weights_too(tmp_path: Path) -> None:
    model = ModelConfig(channels=[4, 4], dense=[6], image_size=16)
    network = build_network(model, 3)
    torch.save(network.network.state_dict(), tmp_path / "cnn.pt")
    model.weights = str(tmp_path / "cnn.pt")
    other = build_network(model, 2)
    assert torch.equal(other.network.block1.conv.weight, network.network.block1.conv.weight)
    model.weights = "DEFAULT"
    with pytest.raises(WeightsError, match=r"no published weights for cnn2; use model\.weights=null or"):
        build_network(model, 2)


def test_a_sigmoid_heads_output_is_the_logit_of_the_second_class() -> None:
    logits = torch.tensor([[0.7], [-2.0]])
    probabilities = class_logits(logits).softmax(dim=1)
    torch.testing.assert_close(probabilities[:, 1], logits[:, 0].sigmoid())
    several = torch.randn(2, 3)
    assert class_logits(several) is several


def test_probabilities_sum_to_1_to_the_last_digit_shown() -> None:
    logits = np.random.default_rng(0).normal(0, 10, (200, 7)).astype(np.float32)
    probabilities = class_probabilities(logits)
    np.testing.assert_allclose(probabilities, softmax(logits.astype(np.float64), axis=1), atol=1e-15)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-15)


def test_a_sigmoid_head_has_one_output_and_refuses_three_classes() -> None:
    model = ModelConfig(channels=[4], dense=[4], image_size=16, head="sigmoid")
    assert build_network(model, 2)(torch.zeros(5, 3, 16, 16)).shape == (5, 1)
    with pytest.raises(
        ConfigError, match=r"'sigmoid' distinguishes two classes, but the data has 3; use model\.head=softmax"
    ):
        build_network(model, 3)


def test_depthwise_convolutions_with_a_stride_are_those_with_a_fast_backward_pass() -> None:
    network = build_network(ModelConfig(name="mobilenet_v2", family="torchvision", image_size=32), 2)
    depthwise = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    assert len(depthwise) == 17
    assert [module.stride for module in depthwise if isinstance(module, Depthwise)] == [(2, 2)] * 4
