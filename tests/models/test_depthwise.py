import copy

import pytest
import torch
import torchvision
from torch import Tensor, nn

from raylight.config.schema import ModelConfig
from raylight.cpu.engine import bf16_supported
from raylight.models.build import build_network
from raylight.models.depthwise import Depthwise, keep_gradient_format, speed_up_backward
from raylight.models.freezing import freeze
from raylight.models.gradcam import grad_cam

FORMATS = [torch.channels_last, torch.contiguous_format]
NETWORKS = ["mobilenet_v2", "mobilenet_v3_small", "shufflenet_v2_x0_5", "mnasnet0_5", "efficientnet_b0", "resnet18"]
SHAPES = [  # kernel, stride, padding, height, width
    (3, 2, 1, 14, 14),
    (3, 2, 1, 9, 12),
    (5, 2, 2, 13, 10),
    (5, 3, 0, 17, 12),
    ((3, 5), (2, 1), (0, 2), 8, 9),
    (2, 2, 0, 7, 6),
    (5, 1, 2, 7, 9),
    (7, 1, 0, 8, 11),
    ((1, 5), 1, (0, 2), 6, 6),
]


def plain_and_changed(name: str) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    plain = torchvision.models.get_model(name, num_classes=3)
    for module in plain.modules():
        if isinstance(module, nn.Dropout) or type(module).__name__ == "StochasticDepth":
            module.p = 0.0
    learn_statistics(plain)
    changed = copy.deepcopy(plain)
    speed_up_backward(changed)
    return plain, changed


def learn_statistics(network: nn.Module) -> None:
    """Give BatchNorm the statistics of some images; with those it starts from, the signal fades away in eval."""
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 96, 96))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def step(network: nn.Module, images: Tensor, *, half: bool) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Loss, gradients and buffers after one step's forward and backward."""
    targets = torch.arange(len(images)) % 3
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        loss = nn.functional.cross_entropy(network(images).float(), targets)
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}
    return loss.detach(), gradients, {name: value.clone() for name, value in network.named_buffers()}


def deviation(one: Tensor, other: Tensor) -> float:
    """Difference as a share of a tensor's size."""
    one, other = one.detach().double(), other.detach().double()
    return float((one - other).norm() / other.norm().clamp_min(1e-12))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("kernel", "stride", "padding", "height", "width"), SHAPES)
@pytest.mark.parametrize("batch", [1, 4])
def test_depthwise_convolution_has_torchs_values_and_gradients(
    kernel: int, stride: int, padding: int, height: int, width: int, batch: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 16, kernel, stride, padding, groups=16, bias=False)
    changed = copy.deepcopy(plain)
    speed_up_backward(changed)
    assert isinstance(changed, Depthwise)
    images = torch.randn(batch, 16, height, width).bfloat16().float().contiguous(memory_format=memory_format)
    with torch.no_grad():
        plain.weight.copy_(plain.weight.bfloat16())
        changed.weight.copy_(plain.weight)
    results = []
    for conv, half in ((plain, False), (plain, True), (changed, False), (changed, True)):
        values = images.clone().requires_grad_(True)
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            output = conv(values)
        conv.weight.grad = None
        # What a bfloat16 layer gets, it gets in bfloat16.
        upstream = torch.randn(output.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
        output.backward(upstream.to(output.dtype))
        results.append((output, values.grad, conv.weight.grad))
    exact, rounded, same, changed_rounded = results
    for one, other in zip(exact, same, strict=True):
        assert torch.equal(one, other)  # float32 is left to torch
    assert torch.equal(rounded[0], changed_rounded[0])
    for one, other, third in zip(exact, rounded, changed_rounded, strict=True):
        assert third.dtype == other.dtype
        if bf16_supported():  # elsewhere torch rounds sums, too, and the comparison with torch's own has to do
            assert deviation(third, one) < 0.004  # half of bfloat16's spacing
        assert deviation(third, one) < 1.1 * deviation(other, one) + 1e-6
    assert changed_rounded[1].stride() == rounded[1].stride()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_bfloat16_without_autocast(memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False).bfloat16()
    changed = copy.deepcopy(plain)
    speed_up_backward(changed)
    images = torch.randn(2, 8, 10, 10).bfloat16().contiguous(memory_format=memory_format)
    gradients = []
    for conv in (plain, changed):
        values = images.clone().requires_grad_(True)
        conv(values).float().square().sum().backward()
        gradients.append((values.grad, conv.weight.grad))
    for one, other in zip(*gradients, strict=True):
        assert one.dtype == other.dtype == torch.bfloat16
        assert deviation(other, one) < 0.01


@pytest.mark.parametrize(("kernel", "stride"), [(3, 2), (5, 1), (5, 2)])
@pytest.mark.parametrize("trains", ["weight", "input"])
def test_only_what_trains_gets_a_gradient(kernel: int, stride: int, trains: str) -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(8, 8, kernel, stride, kernel // 2, groups=8, bias=False).bfloat16()
    plain.weight.requires_grad_(trains == "weight")
    changed = copy.deepcopy(plain)
    speed_up_backward(changed)
    images = torch.randn(2, 8, 10, 10).bfloat16().contiguous(memory_format=torch.channels_last)
    gradients = []
    for conv in (plain, changed):
        values = images.clone().requires_grad_(trains == "input")
        conv(values).float().square().sum().backward()
        assert (values.grad is None) == (trains == "weight")
        assert (conv.weight.grad is None) == (trains == "input")
        gradients.append(values.grad if trains == "input" else conv.weight.grad)
    assert deviation(gradients[1], gradients[0]) < 0.01


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, 2, 1, groups=4, bias=False),
        nn.Conv2d(8, 16, 3, 2, 1, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, 2, 1, groups=8),
        nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, 2, 3, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, 2, 1, dilation=2, groups=8, bias=False),
        nn.Conv2d(1, 1, 3, 2, 1, bias=False),
    ],
)
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    speed_up_backward(conv)
    assert type(conv) is nn.Conv2d


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("batch", [1, 6])
def test_a_step_in_float32_is_torchvisions_own(name: str, batch: int) -> None:
    plain, changed = plain_and_changed(name)
    assert list(changed.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in changed.named_parameters()] == [n for n, _ in plain.named_parameters()]
    images = torch.randn(batch, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    if batch == 1:  # the last maps have a single place, of which BatchNorm can't take a deviation
        images = torch.randn(batch, 3, 192, 192).contiguous(memory_format=torch.channels_last)
    expected, got = (step(network.train(), images, half=False) for network in (plain, changed))
    assert torch.equal(got[0], expected[0])
    for before, after in zip(expected[1:], got[1:], strict=True):
        assert list(before) == list(after)
        for key in before:
            torch.testing.assert_close(after[key], before[key], rtol=1e-5, atol=1e-6, msg=lambda m, k=key: f"{k}: {m}")
    with torch.inference_mode():
        assert torch.equal(changed.eval()(images), plain.eval()(images))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("frozen", [False, True])
def test_a_step_in_bfloat16_is_as_near_to_float32_as_torchvisions(name: str, frozen: bool) -> None:
    plain, changed = plain_and_changed(name)
    exact = copy.deepcopy(plain)
    images = torch.randn(6, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    for network in (plain, changed, exact):
        network.train()
        for module in network.modules():
            if frozen and isinstance(module, nn.BatchNorm2d):
                module.eval()
    right = step(exact, images, half=False)
    expected, got = (step(network, images, half=True) for network in (plain, changed))
    assert torch.equal(got[0], expected[0])  # forward passes are the same
    assert got[2].keys() == expected[2].keys()
    for key, value in expected[2].items():
        assert torch.equal(got[2][key], value), key
    assert list(got[1]) == list(expected[1])
    errors = [(deviation(got[1][k], g), deviation(expected[1][k], g)) for k, g in right[1].items() if g.norm() > 0]
    ours, theirs = (sum(column) / len(column) for column in zip(*errors, strict=True))
    assert ours < 1.05 * theirs + 1e-4


def test_frozen_networks_give_no_gradients_and_copies_stay_apart() -> None:
    config = ModelConfig(name="mobilenet_v2", family="torchvision", image_size=96, normalize="imagenet")
    network = build_network(config, 3)
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(Depthwise) == 4
    freeze(network, network.position("features.13"))
    network.train()
    images = torch.randn(4, 3, 96, 96).contiguous(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in network.named_buffers()}
    twin = copy.deepcopy(network)
    step(network, images, half=True)
    for name, parameter in network.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    changed = {name for name, value in network.named_buffers() if not torch.equal(value, before[name])}
    assert changed
    assert all(int(name.split(".")[2]) >= 13 for name in changed)
    assert all(parameter.grad is None for parameter in twin.parameters())


def test_heat_maps_stay() -> None:
    plain = build_network(
        ModelConfig(name="mobilenet_v2", family="torchvision", image_size=96, normalize="imagenet"), 3
    )
    images = torch.randn(2, 3, 96, 96)
    changed = copy.deepcopy(plain)
    for module in plain.modules():
        if type(module) is Depthwise:
            module.__class__ = nn.Conv2d
    assert (grad_cam(plain, images) == grad_cam(changed, images)).all()


def test_differentiating_twice_is_refused() -> None:
    conv = nn.Conv2d(8, 8, 3, 2, 1, groups=8, bias=False).bfloat16()
    speed_up_backward(conv)
    values = torch.randn(1, 8, 6, 6).bfloat16().requires_grad_(True)
    (gradient,) = torch.autograd.grad(conv(values).square().sum(), values, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_gradients_take_the_format_of_their_map() -> None:
    images = torch.randn(2, 8, 5, 5).contiguous(memory_format=torch.channels_last).requires_grad_(True)
    seen = []
    values = images * 1
    values.register_hook(lambda gradient: seen.append(gradient.is_contiguous(memory_format=torch.channels_last)))
    values.mean((2, 3)).sum().backward()
    values = images * 1
    keep_gradient_format(values)
    values.register_hook(lambda gradient: seen.append(gradient.is_contiguous(memory_format=torch.channels_last)))
    values.mean((2, 3)).sum().backward()
    assert seen == [False, True]
    assert torch.equal(images.grad, torch.full_like(images, 2 / 25))


@pytest.mark.parametrize(
    "values",
    [torch.randn(2, 3, 4, 4), torch.randn(2, 3), torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)],
)
def test_values_without_gradients_or_in_other_formats_are_left_alone(values: Tensor) -> None:
    keep_gradient_format(values)
    assert values._backward_hooks is None


def test_activations_in_place_are_kept_where_nothing_is_copied() -> None:
    network = nn.Sequential(
        nn.ReLU(inplace=True), nn.ReLU6(inplace=True), nn.Hardswish(inplace=True), nn.SiLU(inplace=True)
    )
    speed_up_backward(network)
    assert [module.inplace for module in network] == [True, False, False, False]
