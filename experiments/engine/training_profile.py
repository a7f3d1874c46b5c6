"""What share of the processor's peak training reaches, and which operators take the time.

    python -m experiments.engine.training_profile

One thread, bf16, channels last, batch 16, 224 pixels, Adam. The peak is that of a product of two bfloat16 matrices. A training
step counts as three forward passes.
"""

import collections
import time
from collections.abc import Callable

import torch

from raylight.config.schema import ModelConfig
from raylight.machine import keep_freed_memory
from raylight.models.build import build_network

GIGA_MACS = {"mobilenet_v2": 0.301, "resnet18": 1.814}
"""Multiplications per image, in 10^9, of a forward pass with the head for 1,000 classes."""

BATCH = 16


def main() -> None:
    """Print the peak, and per network the speed and its largest operators."""
    torch.set_num_threads(1)
    keep_freed_memory()
    matrix = torch.randn(1024, 1024).bfloat16()
    peak = 1024**3 / fastest(lambda: matrix @ matrix, 20) / 1e9
    print(f"peak: {peak:.1f} billion multiplications per CPU second")
    for name, work in GIGA_MACS.items():
        step = training_step(name)
        rate = BATCH / fastest(step, 8)
        print(f"{name}: {rate:.1f} images per CPU s, {3 * work * rate / peak:.2f} of the peak")
        for operator, share in shares(step)[:10]:
            print(f"  {share:.3f} {operator}")


def fastest(work: Callable[[], object], times: int) -> float:
    """CPU seconds of the fastest of some runs, after one that doesn't count."""
    work()
    seconds = []
    for _ in range(times):
        begin = time.process_time()
        work()
        seconds.append(time.process_time() - begin)
    return min(seconds)


def training_step(name: str) -> Callable[[], None]:
    """A step of a network with random weights on random images."""
    settings = ModelConfig(name=name, family="torchvision", image_size=224, resize="crop", normalize="imagenet")
    network = build_network(settings, 2).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4)
    images = torch.randn(BATCH, 3, 224, 224).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (BATCH,))

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(network(images).float(), targets)
        loss.backward()
        optimizer.step()

    return step


def shares(step: Callable[[], None]) -> list[tuple[str, float]]:
    """Each operator's share of the time, the largest first; convolutions by direction and kind."""
    with torch.profiler.profile(record_shapes=True) as profile:
        for _ in range(3):
            step()
    found: collections.Counter[str] = collections.Counter()
    for event in profile.key_averages(group_by_input_shape=True):
        name = event.key
        if "mkldnn_convolution" in name or "convolution_backward" in name:
            depthwise = any(len(shape) == 4 and shape[1] == 1 and shape[0] > 8 for shape in event.input_shapes)
            direction = "backward" if "backward" in name else "forward"
            name = f"{direction} {'depthwise' if depthwise else 'dense'} convolution"
        found[name] += event.self_cpu_time_total
    return [(name, each / found.total()) for name, each in found.most_common()]


if __name__ == "__main__":
    main()
