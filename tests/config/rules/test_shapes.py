"""The smallest image that the layers of a network leave something of."""

import pytest
import torch

from raylight.config.rules.shapes import feature_map_size, read_size, scaled_size, smallest_image_size
from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError
from raylight.models.build import build_network
from tests.models.families.test_torchvision import NAME, build


@pytest.mark.parametrize("name", ["alexnet", NAME])
def test_smallest_image_size_of_torchvision_networks_works(name: str) -> None:
    size = smallest_image_size(ModelConfig(name=name, family="torchvision"))
    assert build(name).eval()(torch.zeros(1, 3, size, size)).shape == (1, 2)
    if size > 32:
        with pytest.raises(RuntimeError):
            build(name).eval()(torch.zeros(1, 3, size - 1, size - 1))


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("layers", [1, 3, 5])
def test_a_convnet_takes_its_smallest_image_and_has_a_map_of_the_size_told(padding: str, layers: int) -> None:
    model = ModelConfig(channels=[2] * layers, dense=[2], padding=padding, image_size=64)
    size = smallest_image_size(model)
    assert feature_map_size(model, size) == 1
    assert feature_map_size(model, size - 1) == 0
    for pixels in (size, 2 * size + 3):
        model.image_size = pixels
        network = build_network(model, 2).eval()
        assert network(torch.zeros(1, 3, pixels, pixels)).shape == (1, 2)
        maps = [values for values in hooked(network, pixels) if values.ndim == 4]
        assert maps[-1].shape[2:] == (feature_map_size(model, pixels),) * 2


def hooked(network: torch.nn.Module, pixels: int) -> list[torch.Tensor]:
    """The outputs of all layers, in order."""
    seen: list[torch.Tensor] = []
    for module in network.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.MaxPool2d):
            module.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    network(torch.zeros(1, 3, pixels, pixels))
    return seen


@pytest.mark.parametrize(
    ("model", "smallest"),
    [
        (ModelConfig(name="resnet18", family="torchvision"), 32),
        (ModelConfig(name="alexnet", family="torchvision"), 63),
        (ModelConfig(name="inception_v3", family="torchvision"), 75),
        (ModelConfig(name="vit_tiny", family="timm"), 32),
        (ModelConfig(name="mine", family="own", channels=[1, 2]), 1),
        (ModelConfig(channels=[1]), 2),
        (ModelConfig(channels=[1, 2, 3]), 8),
        (ModelConfig(channels=[1, 2, 3], padding="valid"), 22),  # 22 - 2 = 20, 10 - 2 = 8, 4 - 2 = 2, 1
    ],
)
def test_halvings_and_borders_are_counted(model: ModelConfig, smallest: int) -> None:
    assert smallest_image_size(model) == smallest


def test_a_size_is_a_number_or_height_and_width() -> None:
    assert (read_size(224), read_size([224, 224]), read_size([240, 320])) == (224, 224, (240, 320))
    for value in ("224", [224], [1, 2, 3], 22.4, [240, "320"], True):
        with pytest.raises(ConfigError, match=r"model\.image_size: .* is neither a whole number nor "):
            read_size(value)
    assert scaled_size((240, 320), 120) == scaled_size((480, 640), 120) == (120, 160)
    assert scaled_size((320, 240), 120) == (160, 120)
