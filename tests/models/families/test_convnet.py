from pathlib import Path

import pytest
import torch
import yaml

from raylight.config.rules.shapes import smallest_image_size
from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError
from raylight.models.build import build_network, class_logits

OPTIONS = Path(__file__).resolve().parents[3] / "conf" / "model"
CONVNETS = ["cnn2", "cnn3", "cnn4", "cnn5"]


def option(name: str, **changes: object) -> ModelConfig:
    return ModelConfig(**(yaml.safe_load((OPTIONS / f"{name}.yaml").read_text()) | changes))


def n_parameters(model: ModelConfig, n_classes: int = 2) -> int:
    return sum(parameter.numel() for parameter in build_network(model, n_classes).parameters())


@pytest.mark.parametrize("name", CONVNETS)
@pytest.mark.parametrize(("head", "n_classes", "n_outputs"), [("softmax", 3, 3), ("sigmoid", 2, 1)])
def test_convnets_give_an_output_a_class(name: str, head: str, n_classes: int, n_outputs: int) -> None:
    model = option(name, head=head)
    network = build_network(model, n_classes).eval()
    logits = network(torch.randn(2, 3, model.image_size, model.image_size))
    assert logits.shape == (2, n_outputs)
    assert class_logits(logits).shape == (2, n_classes)


def test_keras_cnn3_has_the_published_number_of_parameters() -> None:
    # 3x3 convolutions 32-64-128 without padding on 150 pixels leave 17x17 cells for a dense layer of 128.
    by_hand = (27 + 1) * 32 + (288 + 1) * 64 + (576 + 1) * 128 + (17 * 17 * 128 + 1) * 128 + (128 + 1)
    published = yaml.safe_load((OPTIONS.parent / "experiment" / "keras_cnn3.yaml").read_text())["model"]
    assert n_parameters(option("cnn3", **published)) == by_hand
    # BatchNorm has a weight and a bias per channel, and takes the convolution's bias away.
    assert n_parameters(option("cnn3", head="sigmoid")) == by_hand + 32 + 64 + 128
    assert 4.75e6 < by_hand < 4.85e6


def test_cnn5_is_what_the_published_system_describes() -> None:
    network = build_network(option("cnn5"), 2)
    kinds = [type(network.stage(position)).__name__ for position in range(len(network.stage_names))]
    assert kinds[:5] == ["Conv2d", "BatchNorm2d", "ReLU", "MaxPool2d", "Dropout2d"]
    assert kinds.count("Conv2d") == 5
    assert kinds.count("BatchNorm2d") == 5
    assert kinds.count("Linear") == 3
    assert network.stage_names[network.head_start] == "dropout1"
    assert n_parameters(option("cnn5")) < 5e6


@pytest.mark.parametrize("name", CONVNETS)
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_smallest_size_is_the_smallest_that_works(name: str, padding: str) -> None:
    model = option(name, padding=padding)
    smallest = smallest_image_size(model)
    model.image_size = smallest
    assert build_network(model, 2).eval()(torch.zeros(1, 3, smallest, smallest)).shape == (1, 2)
    model.image_size = smallest - 1
    with pytest.raises(ConfigError, match=f"image_size: {smallest - 1} is too small for {name}; .* {smallest} pixels"):
        build_network(model, 2)
    network = build_network(option(name, padding=padding, pool="average", image_size=smallest), 2).eval()
    with pytest.raises(RuntimeError):
        network(torch.zeros(1, 3, smallest - 1, smallest - 1))


def test_average_pooling_takes_any_size() -> None:
    network = build_network(option("cnn2", pool="average"), 2).eval()
    assert network(torch.zeros(1, 3, 30, 40)).shape == (1, 2)


def test_sigmoid_and_softmax_agree_on_probabilities() -> None:
    z = torch.tensor([[-3.0], [0.0], [2.0]])
    probabilities = class_logits(z).softmax(1)
    assert torch.allclose(probabilities[:, 1:], z.sigmoid())
    two = torch.randn(4, 2)
    assert class_logits(two) is two


def test_sigmoid_head_refuses_three_classes() -> None:
    with pytest.raises(ConfigError, match=r"model\.head: 'sigmoid' distinguishes two classes, but the data has 3"):
        build_network(option("cnn2", head="sigmoid"), 3)


def test_height_and_width_may_differ() -> None:
    """By hand: two unpadded blocks make (24 - 2) / 2 = 11, then 4 of 24, and 19, then 8 of 40 pixels."""
    network = build_network(ModelConfig(channels=[4, 5], padding="valid", image_size=[24, 40]), 3).eval()
    assert network(torch.zeros(2, 3, 24, 40)).shape == (2, 3)
    assert [module.in_features for module in network.modules() if isinstance(module, torch.nn.Linear)] == [5 * 4 * 8]
    with pytest.raises(ConfigError, match="image_size: 40 x 8 is too small"):
        build_network(ModelConfig(channels=[4, 5], padding="valid", image_size=[40, 8]), 3)
