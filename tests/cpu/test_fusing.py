"""What is computed together, with the same results."""

import pytest
import torch
from torch import nn

from raylight.cpu.convolution import FusedConvolution
from raylight.cpu.fusing import ChannelMeans, fused_graph, shape_of


def seasoned(*stages: nn.Module) -> list[nn.Module]:
    """In eval mode, with BatchNorms that change what they get."""
    for module in nn.Sequential(*stages).modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(tensor, 0.5, 1.5)
    return [stage.eval() for stage in stages]


@pytest.mark.parametrize(
    ("activation", "name"),
    [
        (nn.ReLU(), "relu"),
        (nn.SiLU(), "swish"),
        (nn.Hardswish(), "hardswish"),
        (nn.GELU(), "gelu"),
        (nn.ReLU6(), "hardtanh"),
    ],
)
@torch.no_grad()
def test_a_convolution_takes_in_its_batch_norm_and_activation(activation: nn.Module, name: str) -> None:
    torch.manual_seed(0)
    stages = seasoned(nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)), activation)
    images = torch.randn(2, 3, 10, 10)
    expected = stages[1](stages[0](images))
    graph = fused_graph(stages, images[:1])
    called = [node for node in graph.graph.nodes if node.op == "call_module"]
    (fused,) = [graph.get_submodule(str(node.target)) for node in called]
    assert isinstance(fused, FusedConvolution)
    assert fused.activation.name == name
    assert shape_of(called[0]) == (1, 8, 8, 8)
    fused.pack(2)
    torch.testing.assert_close(graph(images), expected, atol=1e-5, rtol=1e-4)


class Residual(nn.Module):
    """A block that adds what it got."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(values)) + values)


@torch.no_grad()
def test_a_block_with_its_residual_is_one_operation() -> None:
    torch.manual_seed(0)
    (block,) = seasoned(Residual())
    images = torch.randn(2, 4, 6, 6)
    expected = block(images)
    graph = fused_graph([block], images[:1])
    (node,) = [node for node in graph.graph.nodes if node.op not in ("placeholder", "output")]
    fused = graph.get_submodule(str(node.target))
    assert isinstance(fused, FusedConvolution)
    assert fused.adds
    fused.pack(2)
    torch.testing.assert_close(graph(images.clone()), expected, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_what_does_nothing_in_eval_mode_is_left_out() -> None:
    graph = fused_graph([nn.Dropout(0.5).eval(), nn.Linear(4, 2).eval(), nn.Identity()], torch.zeros(1, 4))
    assert [node.op for node in graph.graph.nodes] == ["placeholder", "call_module", "output"]


@torch.no_grad()
def test_means_over_all_positions_are_torchs() -> None:
    graph = fused_graph([nn.Sequential(nn.AdaptiveAvgPool2d(1)), nn.AdaptiveAvgPool2d((1, 1))], torch.zeros(1, 8, 9, 6))
    assert all(type(module) is ChannelMeans for module in graph.modules() if isinstance(module, nn.AdaptiveAvgPool2d))
    other = fused_graph([nn.AdaptiveAvgPool2d(2)], torch.zeros(1, 8, 9, 6))
    assert not any(isinstance(module, ChannelMeans) for module in other.modules())
    values = torch.randn(3, 8, 9, 6, generator=torch.Generator().manual_seed(0)).contiguous(
        memory_format=torch.channels_last
    )
    for given in (values, values.bfloat16()):
        assert torch.equal(ChannelMeans()(given), nn.functional.adaptive_avg_pool2d(given, 1))
