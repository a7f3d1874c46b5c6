import tempfile
from pathlib import Path

import pytest
import torch

from raylight.cpu import depthwise
from raylight.cpu.depthwise import DepthwiseConvolution, compiled

needs_kernel = pytest.mark.skipif(compiled() is None, reason="no C compiler, or a processor without AVX-512 and VNNI")


@needs_kernel
@pytest.mark.parametrize(("channels", "height", "width"), [(8, 7, 7), (64, 1, 1), (96, 6, 9), (150, 5, 2)])
@pytest.mark.parametrize("stride", [1, 2])
def test_it_is_torchs_convolution_rounded_to_uint8(channels: int, height: int, width: int, stride: int) -> None:
    random = torch.Generator().manual_seed(0)
    values = torch.randint(0, 256, (3, channels, height, width), dtype=torch.uint8, generator=random)
    weight = torch.randint(-127, 128, (channels, 1, 3, 3), dtype=torch.int8, generator=random)
    scale = torch.rand(channels, generator=random) * 1e-3 + 1e-3
    bias = torch.randn(channels, generator=random) * 50 + 60
    library = compiled()
    assert library is not None
    found = DepthwiseConvolution(library, weight, scale, bias, stride)(values)
    sums = torch.nn.functional.conv2d(values.double(), weight.double(), None, stride, 1, 1, channels)
    wanted = (sums * scale.double()[:, None, None] + bias.double()[:, None, None]).clamp(0, 255)
    assert found.shape == wanted.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found.double() - wanted).abs().max()) <= 0.5 + 1e-3
    assert channels < 96 or bool((found == 255).any())


@needs_kernel
def test_images_of_another_number_of_channels_are_refused() -> None:
    library = compiled()
    assert library is not None
    conv = DepthwiseConvolution(library, torch.ones(8, 1, 3, 3, dtype=torch.int8), torch.ones(8), torch.zeros(8), 1)
    with pytest.raises(ValueError, match="9 channels instead of 8"):
        conv(torch.zeros(1, 9, 4, 4, dtype=torch.uint8))


@needs_kernel
def test_compiling_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert compiled.__wrapped__() is not None
    assert not list(tmp_path.iterdir())


@needs_kernel
@pytest.mark.parametrize(("compiler", "told"), [(None, "has no C compiler"), ("false", "can't be compiled")])
def test_without_a_compiler_that_works_it_is_told(
    compiler: str | None, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "raylight")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(depthwise.shutil, "which", lambda _: compiler)
    assert compiled.__wrapped__() is None
    assert told in caplog.text
    assert not list(tmp_path.iterdir())


def test_another_processor_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(depthwise, "NEEDED", {"an instruction that no processor has"})
    assert compiled.__wrapped__() is None
