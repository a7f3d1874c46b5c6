"""Faster training steps on a CPU: replaces what torch does slowly there; parameters, names and results stay the same.

Costs found by timing the operators of a step (torch 2.15 with oneDNN, bfloat16, channels last, 224 pixels, 32 images, one
thread with AVX-512; a step of MobileNetV2 took 1490 ms):

- The gradient of a strided depthwise convolution's input: oneDNN has no fast bfloat16 kernel for it and uses its reference
  code, 600 ms for four of the 52 layers of MobileNetV2. A convolution without stride gives the same in 30 ms.
- The gradient of a depthwise kernel larger than 3 x 3 (MobileNetV3, EfficientNet): the same reference code in bfloat16;
  in float32, casts included, a third of the time or less.
- Activations in place: autograd copies the value before it is overwritten, 23 ms, since the derivative needs it.
- The gradient of global pooling is the same at all positions of the feature map, and torch lays it out contiguously; all
  operations that follow mix two memory formats, 27 ms.

Forward passes are torch's own, as is everything in float32 or on a GPU. Leaves out the inference engine (``cpu.engine``).
"""

from collections.abc import Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def speed_up_backward(network: nn.Module) -> None:
    """Changes a network in place so that its gradients take less time; its state and outputs stay the same.

    Args:
        network: its depthwise convolutions become ``Depthwise`` where that helps, and activations whose derivative needs
            their input no longer work in place.
    """
    for module in network.modules():
        if type(module) is nn.Conv2d and Depthwise.covers(module):
            module.__class__ = Depthwise
        elif isinstance(module, nn.Hardtanh | nn.Hardswish | nn.SiLU):  # ReLU6 is a Hardtanh
            module.inplace = False


def keep_gradient_format(values: Float[Tensor, "..."]) -> None:
    """Makes the gradient of a feature map arrive in channels last if the map itself is.

    Args:
        values: output of a stage that trains; anything but a feature map in channels last on the CPU is left alone.
    """
    if values.requires_grad and values.ndim == 4 and values.device.type == "cpu" and _format(values) is _LAST:
        values.register_hook(lambda gradient: gradient.contiguous(memory_format=_LAST))  # type: ignore[no-untyped-call]


class Depthwise(nn.Conv2d):
    """A depthwise convolution with stride or a large kernel, fast to differentiate in bfloat16 on a CPU.

    ``speed_up_backward`` makes it of a convolution that it ``covers``.
    """

    @staticmethod
    def covers(conv: nn.Conv2d) -> bool:
        """Whether torch is slow at a convolution: depthwise, with stride or a large kernel, and without bias."""
        if conv.padding_mode != "zeros" or isinstance(conv.padding, str) or conv.bias is not None:
            return False
        return (
            conv.groups == conv.in_channels == conv.out_channels
            and conv.groups > 1
            and (max(conv.stride) > 1 or _is_large(conv.kernel_size))
            and max(conv.dilation) == 1
            and all(pad < size for pad, size in zip(conv.padding, conv.kernel_size, strict=True))
        )

    def forward(
        self, values: Float[Tensor, "batch channel height width"]
    ) -> Float[Tensor, "batch channel rows columns"]:
        """The convolution of a feature map, in the type of autocast where that is on."""
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else values.dtype
        differentiated = torch.is_grad_enabled() and (values.requires_grad or self.weight.requires_grad)
        if not differentiated or values.device.type != "cpu" or dtype != torch.bfloat16:
            return super().forward(values)
        padding = cast("tuple[int, int]", self.padding)
        result = _Depthwise.apply(values.to(dtype), self.weight.to(dtype), self.stride, padding)
        return cast("Tensor", result)


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Float[Tensor, "batch channel height width"],
        weight: Float[Tensor, "channel 1 down across"],
        stride: tuple[int, int],
        padding: tuple[int, int],
    ) -> Float[Tensor, "batch channel rows columns"]:
        ctx.save_for_backward(values, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.conv2d(values, weight, None, stride, padding, groups=len(weight))

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator,unused-ignore]
    def backward(ctx: Any, gradient: Float[Tensor, "batch channel rows columns"]) -> tuple[Tensor | None, ...]:
        values, weight = ctx.saved_tensors
        of_values = of_weight = None
        if ctx.needs_input_grad[0]:
            if max(ctx.stride) > 1:
                of_values = _of_values(gradient, values, weight, ctx.stride, ctx.padding)
            else:
                of_values = _by_torch(gradient, values, weight, ctx.stride, ctx.padding, of_weight=False)
        if ctx.needs_input_grad[1]:
            dtype = torch.float32 if _is_large(weight.shape[2:]) else weight.dtype
            operands = (gradient.to(dtype), values.to(dtype), weight.to(dtype))
            of_weight = _by_torch(*operands, ctx.stride, ctx.padding, of_weight=True).to(weight.dtype)
        return of_values, of_weight, None, None


def _by_torch(
    gradient: Float[Tensor, "batch channel rows columns"],
    values: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "channel 1 down across"],
    stride: tuple[int, int],
    padding: tuple[int, int],
    *,
    of_weight: bool,
) -> Tensor:
    """The gradient of a depthwise convolution's weight, or of its input, as torch computes it."""
    wanted, shape = (not of_weight, of_weight, False), (stride, padding, (1, 1), False, (0, 0), len(weight))
    results = torch.ops.aten.convolution_backward(gradient, values, weight, None, *shape, wanted)
    return cast("Tensor", results[1 if of_weight else 0])


def _of_values(
    gradient: Float[Tensor, "batch channel rows columns"],
    values: Float[Tensor, "batch channel height width"],
    weight: Float[Tensor, "channel 1 down across"],
    stride: tuple[int, int],
    padding: tuple[int, int],
) -> Float[Tensor, "batch channel height width"]:
    """Computes the gradient of a strided depthwise convolution's input, by a convolution without stride.

    A convolution with stride equals one without, of which only each stride-th position is kept. So the gradient is 0 at the
    other positions, and it passes through a convolution without stride by convolving with the mirrored kernel. Most of the
    products are with 0, and still this is the fastest way that torch's operators offer.

    Returns:
        The gradient, in the memory format of ``values``.
    """
    (height, width), (down, across) = values.shape[2:], weight.shape[2:]
    dense = (height + 2 * padding[0] - down + 1, width + 2 * padding[1] - across + 1)
    spread = torch.empty(
        (*values.shape[:2], *dense), dtype=gradient.dtype, device=gradient.device, memory_format=_format(values)
    ).zero_()
    spread[:, :, :: stride[0], :: stride[1]] = gradient
    around = (down - 1 - padding[0], across - 1 - padding[1])
    return torch.conv2d(spread, weight.flip(2, 3), None, 1, around, groups=len(weight))


_LAST = torch.channels_last


def _format(values: Tensor) -> torch.memory_format:
    return _LAST if values.is_contiguous(memory_format=_LAST) else torch.contiguous_format


def _is_large(kernel: Sequence[int]) -> bool:
    return max(kernel) > 3
