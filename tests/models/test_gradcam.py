import math

import numpy as np
import pytest
import torch
from torch import nn

from raylight.config.schema import ModelConfig
from raylight.errors import RunError
from raylight.models.build import build_network
from raylight.models.freezing import freeze
from raylight.models.gradcam import border_share, grad_cam, last_feature_map
from raylight.models.stages import StagedNetwork


def red_and_green(weights):
    """Feature maps that are the image's red and green; each output weighs their means."""
    look = nn.Conv2d(3, 2, 1, bias=False)
    look.weight.data = torch.eye(3)[:2, :, None, None].clone()
    head = nn.Linear(2, len(weights), bias=False)
    head.weight.data = torch.tensor(weights)
    parts = nn.Sequential()
    for name, part in {"look": look, "relu": nn.ReLU(inplace=True), "pool": nn.AdaptiveAvgPool2d(1),
                       "flatten": nn.Flatten(), "head": head}.items():  # fmt: skip
        parts.add_module(name, part)
    return StagedNetwork(parts, ["look", "relu", "pool", "flatten", "head"], head_start=4)


def red_left_green_right():
    image = torch.zeros(1, 3, 8, 8)
    image[:, 0, :, :3] = 0.5
    image[0, 0, 4, 1] = 1.0
    image[:, 1, :, 6:] = 1.0
    return image


def test_the_heat_is_the_weighted_feature_map_with_its_peak_at_1():
    heat = grad_cam(red_and_green([[1.0, 0.0], [0.0, 1.0]]), red_left_green_right(), np.array([0]))
    expected = np.zeros((8, 8), np.float32)
    expected[:, :3], expected[4, 1] = 0.5, 1.0
    np.testing.assert_allclose(heat[0], expected, atol=1e-6)


def test_evidence_against_the_class_gives_no_heat():
    heat = grad_cam(red_and_green([[1.0, -5.0], [-1.0, -1.0]]), red_left_green_right(), np.array([0]))
    assert heat[0, :, 6:].max() == 0
    assert grad_cam(red_and_green([[1.0, 0.0], [-1.0, -1.0]]), red_left_green_right(), np.array([1])).max() == 0


def test_without_classes_the_predicted_one_of_each_image_is_explained():
    images = red_left_green_right().repeat(2, 1, 1, 1)
    images[1, 0] = 0
    heat = grad_cam(red_and_green([[9.0, 0.0], [0.0, 1.0]]), images)
    assert heat[0, :, :3].sum() > 0 == heat[0, :, 6:].sum()
    assert heat[1, :, 6:].sum() > 0 == heat[1, :, :3].sum()


def test_a_sigmoid_head_explains_both_classes():
    network, image = red_and_green([[1.0, -1.0]]), red_left_green_right()
    positive, negative = (grad_cam(network, image, np.array([k]))[0] for k in (1, 0))
    assert positive[:, :3].sum() > 0 == positive[:, 6:].sum()
    assert negative[:, 6:].sum() > 0 == negative[:, :3].sum()


def test_equals_grad_cam_by_hooks_through_the_whole_network():
    torch.manual_seed(0)
    network = build_network(ModelConfig(name="resnet18", family="torchvision", image_size=96), 3).eval()
    images = torch.randn(2, 3, 96, 96)
    kept = {}
    hook = network.network.layer4[1].register_forward_hook(lambda _, __, output: kept.update(map=output))
    logits = network(images)
    hook.remove()
    gradient = torch.autograd.grad(logits[:, 2].sum(), kept["map"])[0]
    heat = (gradient.mean((2, 3), keepdim=True) * kept["map"]).sum(1, keepdim=True).relu()
    heat = nn.functional.interpolate(heat, size=(96, 96), mode="bilinear")[:, 0].detach().numpy()
    expected = heat / heat.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(grad_cam(network, images, np.array([2, 2])), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("model", "stage"),
    [
        (ModelConfig(name="cnn2", image_size=64, channels=[32, 64], padding="valid", dense=[128]), None),
        (ModelConfig(name="cnn5", image_size=64, channels=[16, 32, 64, 128], batch_norm=True, conv_dropout=0.1,
                     dense=[64], dropout=0.3, head="sigmoid"), None),
        (ModelConfig(name="resnet18", family="torchvision", image_size=64), "layer4.1"),
        (ModelConfig(name="mobilenet_v2", family="torchvision", image_size=64, head="sigmoid"), "features.18"),
        (ModelConfig(name="squeezenet1_1", family="torchvision", image_size=64), "features.12"),
    ],
    ids=lambda value: value.name if isinstance(value, ModelConfig) else "",
)  # fmt: skip
def test_a_frozen_network_in_training_is_explained_and_left_as_it_was(model, stage):
    torch.manual_seed(1)
    network = build_network(model, 2)
    freeze(network, network.head_start)
    network.train()
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():  # as in a report written during testing
        first, second = (grad_cam(network, images) for _ in range(2))
    assert first.shape == (2, 64, 64)
    assert first.dtype == np.float32
    assert first.min() >= 0
    assert set(first.max(axis=(1, 2)).tolist()) <= {0.0, 1.0}
    np.testing.assert_array_equal(first, second)  # dropout was off
    assert [module.training for module in network.modules()] == modes
    assert all(parameter.grad is None for parameter in network.parameters())
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    if stage is not None:
        assert network.stage_names[last_feature_map(network.eval(), images)[0]] == stage


def test_a_network_without_feature_map_is_refused_with_the_reason():
    class Tokens(nn.Module):
        def forward(self, images):
            return images.mean((2, 3))

    parts = nn.Sequential()
    parts.add_module("body", Tokens())
    parts.add_module("head", nn.Linear(3, 2))
    for network in (StagedNetwork(parts, ["body", "head"], 1), StagedNetwork(parts, ["network"], 0, sequential=False)):
        with pytest.raises(RunError, match="needs a feature map before the classifier head"):
            grad_cam(network, torch.zeros(1, 3, 8, 8))


def test_border_share():
    inside = np.zeros((20, 20))
    inside[8:12, 8:12] = 1
    assert border_share(inside) == 0
    assert border_share(1 - inside) > 0.5
    assert border_share(np.ones((100, 100))) == pytest.approx(1 - 0.7**2)
    corner = np.zeros((20, 20))
    corner[0, 0], corner[10, 10] = 1, 3
    assert border_share(corner) == 0.25
    assert border_share(corner / 64) == 0.25  # however little heat there is
    assert border_share(corner, border=0) == 0
    assert math.isnan(border_share(np.zeros((8, 8))))


@pytest.mark.parametrize(("weights", "predicted"), [([[1.0, -1.0]], 0), ([[-1.0, 1.0]], 1), ([[9.0, -1.0]], 1)])
def test_a_sigmoid_heads_heat_is_the_positive_part_of_its_weighted_maps(weights, predicted):
    """Of class 1 with the weights as they are, of class 0 with their opposite; none given means the predicted one."""
    network, image = red_and_green(weights), red_left_green_right()
    assert int(network(image)[0, 0] > 0) == predicted
    maps = image[0, :2].numpy()
    for k, sign in ((1, 1.0), (0, -1.0)):
        expected = np.maximum(sign * np.tensordot(weights[0], maps, axes=1), 0)
        np.testing.assert_allclose(grad_cam(network, image, np.array([k]))[0], expected / expected.max(), atol=1e-6)
    np.testing.assert_array_equal(grad_cam(network, image), grad_cam(network, image, np.array([predicted])))


def test_a_logit_of_zero_is_class_0_of_a_sigmoid_head():
    network = red_and_green([[0.0, 0.0]])
    network.network.head.weight.data = torch.tensor([[1.0, -24.5 / 16]])  # red and green cancel out
    image = red_left_green_right()
    image[0, 0, 4, 1] = 0.5
    image[0, 1] *= 24 * 0.5 / 16 / (24.5 / 16)
    logit = network(image)[0, 0]
    network.network.head.bias = nn.Parameter(-logit.detach()[None])
    assert network(image).item() == 0
    np.testing.assert_array_equal(grad_cam(network, image), grad_cam(network, image, np.array([0])))


def test_classes_of_a_batch_are_explained_each_for_its_image():
    network = red_and_green([[1.0, 0.0], [0.0, 1.0]])
    images = red_left_green_right().repeat(3, 1, 1, 1)
    heat = grad_cam(network, images, np.array([0, 1, 0]))
    assert [bool(one[:, :3].any()) for one in heat] == [True, False, True]
    assert [bool(one[:, 6:].any()) for one in heat] == [False, True, False]


def test_the_last_map_is_the_last_with_a_height_and_a_width():
    network = red_and_green([[1.0, 0.0]])
    position, features = last_feature_map(network, red_left_green_right())
    assert (position, network.stage_names[position]) == (1, "relu")
    torch.testing.assert_close(features, red_left_green_right()[:, :2])
    # A map of one row or column has no place left.
    with pytest.raises(RunError, match="needs a feature map"):
        last_feature_map(network, torch.zeros(1, 3, 1, 8))


@pytest.mark.parametrize(("height", "width", "border"), [(40, 20, 0.1), (20, 40, 0.25), (20, 20, 0.5)])
def test_the_border_is_a_share_of_height_and_of_width(height, width, border):
    heat = np.ones((height, width))
    rows, columns = round(border * height), round(border * width)
    inside = (height - 2 * rows) * (width - 2 * columns)
    assert border_share(heat, border) == pytest.approx(1 - inside / (height * width))
    edge = np.zeros((height, width))
    edge[rows - 1, width // 2] = edge[height // 2, columns - 1] = 1
    assert border_share(edge, border) == 1
