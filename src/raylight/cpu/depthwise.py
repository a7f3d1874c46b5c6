"""A depthwise 3x3 convolution of uint8 values, written in C: oneDNN's takes longer in int8 than in bfloat16.

The machine's own C compiler compiles it, in half a second, when a process first needs it. Without a compiler, or AVX-512 with
VNNI, oneDNN's is used, which gives the same up to rounding. Leaves out all other convolutions
(``quantising``).
"""

import ctypes
import functools
import logging
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from jaxtyping import Float, Int8, UInt8
from torch import Tensor, nn

from raylight.machine import processor_flags

CHUNK = 64
"""Channels that are computed at once."""

NEEDED = {"avx512f", "avx512bw", "avx512_vnni"}
"""Flags of the processor, as Linux names them."""

OPTIONS = ("-O3", "-mavx512f", "-mavx512bw", "-mavx512vnni", "-shared", "-fPIC")

log = logging.getLogger("raylight")


@functools.cache
def compiled() -> ctypes.CDLL | None:
    """The kernel; ``None`` where the processor or the compiler isn't there."""
    if not processor_flags() >= NEEDED:
        return None
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        log.info("int8: this machine has no C compiler, so depthwise convolutions are oneDNN's, which are slower.")
        return None
    try:
        with tempfile.TemporaryDirectory(prefix="raylight-") as folder:  # of this user alone: whatever is loaded is run
            path = Path(folder, "depthwise.so")
            command = [compiler, *OPTIONS, "-o", str(path), str(Path(__file__).with_suffix(".c"))]
            subprocess.run(command, check=True, capture_output=True, text=True)
            library = ctypes.CDLL(str(path))
    except (OSError, subprocess.CalledProcessError) as error:
        reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        log.warning("int8: depthwise convolutions are oneDNN's, which are slower; ours can't be compiled: %s", reason)
        return None
    library.depthwise.argtypes = [ctypes.c_void_p] * 5 + [ctypes.c_long] * 5
    library.depthwise.restype = None
    return library


class DepthwiseConvolution(nn.Module):
    """A depthwise 3x3 convolution with a padding of 1, from uint8 whose zero stands for 0 to uint8.

    Args:
        library: by ``compiled``.
        weight: one kernel per channel.
        scale: factor of each channel's sum of products of integers.
        bias: added to each channel after that, in units of the output.
        stride: 1 or 2, in both directions.

    Example:
        >>> library = compiled()
        >>> ones = torch.ones(8, 1, 3, 3, dtype=torch.int8)
        >>> mean = library and DepthwiseConvolution(library, ones, torch.full((8,), 1 / 9), torch.zeros(8), 1)
        >>> image = torch.full((1, 8, 3, 3), 90, dtype=torch.uint8)
        >>> mean(image)[0, 0].tolist() if mean else [[40, 60, 40], [60, 90, 60], [40, 60, 40]]
        [[40, 60, 40], [60, 90, 60], [40, 60, 40]]
    """

    def __init__(
        self,
        library: ctypes.CDLL,
        weight: Int8[Tensor, "channel 1 3 3"],
        scale: Float[Tensor, " channel"],
        bias: Float[Tensor, " channel"],
        stride: int,
    ) -> None:
        super().__init__()
        self.library, self.stride, self.channels = library, stride, len(weight)
        chunks = -(-len(weight) // CHUNK)
        missing = chunks * CHUNK - len(weight)
        kernels = nn.functional.pad(weight[:, 0], (0, 0, 0, 1, 0, missing))  # a fourth row of zeros
        lanes = kernels.reshape(chunks, 4, 4, 4, 4, 3)  # chunk, block of 16 channels, quarter, channel, row, column
        self.weight = lanes.permute(0, 5, 2, 1, 3, 4).contiguous()
        self.scale, self.bias = (
            nn.functional.pad(each.float(), (0, missing)).reshape(chunks, 4, 4, 4).transpose(1, 2).contiguous()
            for each in (scale, bias)
        )

    def forward(self, values: UInt8[Tensor, "batch channel height width"]) -> UInt8[Tensor, "batch channel out out"]:
        """Computes the convolution, in this thread alone."""
        values = values.contiguous(memory_format=torch.channels_last)
        n, channels, height, width = values.shape
        if channels != self.channels:
            raise ValueError(f"values: {channels} channels instead of {self.channels}")
        shape = (n, channels, (height - 1) // self.stride + 1, (width - 1) // self.stride + 1)
        outputs = torch.empty(shape, dtype=torch.uint8, memory_format=torch.channels_last)
        pointers = (each.data_ptr() for each in (values, outputs, self.weight, self.scale, self.bias))
        self.library.depthwise(*pointers, n, height, width, channels, self.stride)
        return outputs
