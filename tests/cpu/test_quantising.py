import numpy as np
import pytest
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from raylight import machine
from raylight.cpu import quantising
from raylight.cpu.convolution import Activation, FusedConvolution
from raylight.cpu.depthwise import DepthwiseConvolution, compiled
from raylight.cpu.engine import InferenceEngine, Int8
from raylight.cpu.fusing import fused_graph
from raylight.cpu.quantising import QuantisedConvolution, Scale, _MaxPool, int8_supported, mean_ranges, observed_ranges
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from tests.cpu.test_engine import MODELS, SIZE, error, pixels, plain, seasoned

__all__ = ["pixels"]

pytestmark = pytest.mark.skipif(not int8_supported(), reason="this processor has no int8 instructions")


def integers(shape: tuple[int, ...], seed: int) -> UInt8[Tensor, "..."]:
    drawn = torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
    return drawn.contiguous(memory_format=torch.channels_last)


def real(values: UInt8[Tensor, "..."], scale: Scale) -> Float[Tensor, "..."]:
    return (values.double() - scale.zero) * scale.step


@pytest.mark.parametrize(
    ("activation", "given"),
    [
        (Activation("relu"), Scale(0.02, 0)),  # by saturation alone
        (Activation("hardtanh", (0.0, 6.0)), Scale(6 / 255, 0)),
        (Activation(), Scale(0.03, 120)),
        (Activation("hardswish"), Scale(0.02, 20)),
        (Activation("relu"), None),
    ],
)
@pytest.mark.parametrize("groups", [1, 8])
def test_a_convolution_is_that_of_the_numbers_that_its_integers_stand_for(
    activation: Activation, given: Scale | None, groups: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 16, 3, stride=2, padding=1, groups=groups)
    taken, values = Scale(0.01, 100), integers((2, 8, 9, 9), 0)
    quantised = QuantisedConvolution(FusedConvolution(conv, activation, (1, 8, 9, 9), adds=False), taken, given, None)
    step = conv.weight.detach().abs().amax((1, 2, 3), keepdim=True) / 127
    weight = (conv.weight.detach() / step).round() * step
    wanted = nn.functional.conv2d(
        real(values, taken), weight.double(), conv.bias.detach().double(), (2, 2), (1, 1), groups=groups
    )
    act = {"relu": nn.ReLU(), "hardtanh": nn.ReLU6(), "hardswish": nn.Hardswish(), "none": nn.Identity()}
    wanted = act[activation.name](wanted)
    quantised.pack(2)
    found = quantised(values)
    if given is None:
        assert found.dtype == torch.bfloat16
        torch.testing.assert_close(found.double(), wanted, rtol=2**-8, atol=1e-3)
    else:
        low, high = -given.zero * given.step, (255 - given.zero) * given.step
        torch.testing.assert_close(real(found, given), wanted.clamp(low, high), rtol=0, atol=0.51 * given.step)


def test_a_residual_is_added_in_its_own_scale() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 1)
    taken, other, given = Scale(0.01, 128), Scale(0.02, 30), Scale(0.03, 90)
    values, residual = integers((2, 8, 5, 5), 0), integers((2, 8, 5, 5), 1)
    quantised = QuantisedConvolution(FusedConvolution(conv, Activation(), (1, 8, 5, 5), adds=True), taken, given, other)
    step = conv.weight.detach().abs().amax((1, 2, 3), keepdim=True) / 127
    weight = (conv.weight.detach() / step).round() * step
    wanted = nn.functional.conv2d(real(values, taken), weight.double(), conv.bias.detach().double()) + real(
        residual, other
    )
    quantised.pack(2)
    bounds = -given.zero * given.step, (255 - given.zero) * given.step
    torch.testing.assert_close(
        real(quantised(values, residual), given), wanted.clamp(*bounds), rtol=0, atol=0.51 * given.step
    )


@pytest.mark.parametrize("pool", [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2), nn.MaxPool2d((3, 2), (1, 2), (1, 0))])
def test_pooling_integers_is_pooling_numbers(pool: nn.MaxPool2d) -> None:
    values = integers((2, 4, 11, 8), 0)
    assert torch.equal(_MaxPool(pool)(values).float(), pool(values.float()))


def test_ranges_are_the_mean_extremes_of_batches() -> None:
    conv = nn.Conv2d(1, 1, 1, bias=False)
    nn.init.ones_(conv.weight)
    graph = fused_graph([conv.eval()], torch.zeros(1, 1, 1, 2))
    batches = [torch.tensor([[[[-1.0, 5.0]]]]), torch.tensor([[[[-3.0, 1.0]]]])]
    with torch.inference_mode():
        observed = [observed_ranges(graph, batch) for batch in batches]
    assert [list(each.values()) for each in observed] == [[(-1.0, 5.0)], [(-3.0, 1.0)]]
    assert list(mean_ranges(observed).values()) == [(-2.0, 3.0)]


@pytest.mark.parametrize(
    ("name", "convolutions", "tolerance"),
    [("mobilenet_v2", 52, 0.8), ("resnet18", 20, 0.2), ("cnn5", 3, 0.05), ("mobilenet_v3_small", 2, 0.5)],
)
def test_networks_come_close_in_int8(name: str, convolutions: int, tolerance: float, pixels: np.ndarray) -> None:
    """MobileNetV3's first squeeze-and-excitation ends what int8 can do. MobileNetV2 with random weights on so small images
    errs by 0.25 in bfloat16 already."""
    network, preprocessing = seasoned(MODELS[name], pixels)
    precision = Int8.measured_on(network, preprocessing, pixels)
    engine = InferenceEngine(network, 0, None, preprocessing, precision, threads=1)
    found = engine(pixels)
    modules = [module for section in engine._program((SIZE, SIZE, 3)).sections for module in section.module.modules()]
    assert len({id(m) for m in modules if isinstance(m, QuantisedConvolution | DepthwiseConvolution)}) == convolutions
    assert error(found, plain(network, preprocessing, pixels)) < tolerance


def test_depthwise_convolutions_by_either_kernel_are_the_same_up_to_rounding(
    pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, preprocessing = seasoned(MODELS["mobilenet_v2"], pixels)
    precision, stop = Int8.measured_on(network, preprocessing, pixels), 4
    engine = InferenceEngine(network, 0, stop, preprocessing, precision, threads=1)
    found = engine(pixels)
    modules = [module for section in engine._program((SIZE, SIZE, 3)).sections for module in section.module.modules()]
    assert any(isinstance(module, DepthwiseConvolution) for module in modules) == (compiled() is not None)
    monkeypatch.setattr(quantising, "compiled", lambda: None)
    by_onednn = InferenceEngine(network, 0, stop, preprocessing, precision, threads=1)(pixels)
    assert error(found, by_onednn) < 0.02


class Twice(nn.Module):
    """A residual that is needed again later, so that it mustn't be overwritten."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(n, 8, 3, padding=1) for n in (3, 8, 8))

    def forward(self, values: Tensor) -> Tensor:
        values = torch.relu(self.first(values))
        total = values + self.second(values)
        return self.third(total) + values


def test_a_residual_that_is_used_later_is_left_alone(pixels: np.ndarray) -> None:
    torch.manual_seed(0)
    network, preprocessing = StagedNetwork.undivided(Twice().eval()), Preprocessing.from_config(MODELS["cnn5"])
    precision = Int8.measured_on(network, preprocessing, pixels)
    found = InferenceEngine(network, 0, None, preprocessing, precision, threads=1)(pixels)
    assert error(found, plain(network, preprocessing, pixels)) < 0.05


def test_beginnings_of_a_network_use_the_ranges_of_the_whole(pixels: np.ndarray) -> None:
    network, preprocessing = seasoned(MODELS["resnet18"], pixels)
    precision, stop = Int8.measured_on(network, preprocessing, pixels), network.head_start
    features = InferenceEngine(network, 0, stop, preprocessing, precision, threads=1)(pixels)
    assert error(features, plain(network, preprocessing, pixels, stop)) < 0.3
    head = InferenceEngine(network, stop, None, None, precision, threads=1)(features)
    whole = InferenceEngine(network, 0, None, preprocessing, precision, threads=1)(pixels)
    assert error(head, whole) < 0.005


def test_a_network_without_a_first_convolution_has_no_ranges(pixels: np.ndarray) -> None:
    network = StagedNetwork.undivided(nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(3, 4, 3)).eval())
    assert Int8.measured_on(network, Preprocessing.from_config(MODELS["cnn5"]), pixels).ranges == {}


def test_processors_are_told_apart_by_their_flags(tmp_path, monkeypatch) -> None:
    class File:
        flags = ""

        def __init__(self, path: str) -> None:
            assert path == "/proc/cpuinfo"

        def is_file(self) -> bool:
            return True

        def read_text(self) -> str:
            return f"flags : fpu {self.flags} sse"

    monkeypatch.setattr(machine, "Path", File)
    for File.flags, wanted in (("avx2", False), ("avx512_vnni", True), ("avx_vnni", True), ("avx512_bf16", False)):
        assert int8_supported() is wanted
