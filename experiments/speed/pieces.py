"""Does training gain from small pieces of a batch, as inference does? Gradients of the pieces are added up.

    python -m experiments.speed.pieces [--batch 32] [--networks cnn2:64,cnn3:150,alexnet:224,...]

Only networks in which no layer looks at the whole batch can be split so (no BatchNorm in training). Prints the milliseconds
of a step, forward, backward and optimizer, in the settings that Raylight trains with.
"""

import argparse
import time
from collections.abc import Iterator

import torch

from raylight.config.schema import ModelConfig
from raylight.cpu.engine import bf16_supported
from raylight.models.build import build_network, class_logits
from raylight.models.stages import StagedNetwork
from raylight.runs.machine import keep_freed_memory, usable_cpus

DEFAULT = "cnn2:64,cnn3:150,cnn4:224,squeezenet1_1:224,alexnet:224,vgg11:224,convnext_tiny:224"
STEPS = 5


def main() -> None:
    """Time each network with whole batches and with pieces, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default=DEFAULT, help="NAME:PIXELS, comma-separated")
    parser.add_argument("--batch", type=int, default=32, help="images a step")
    arguments = parser.parse_args()
    keep_freed_memory()
    torch.set_flush_denormal(True)
    torch.set_num_threads(usable_cpus())
    pieces = [arguments.batch // part for part in (1, 2, 4, 8)]
    print("| network | " + " | ".join(f"pieces of {piece}" for piece in pieces) + " |")
    print("| --- |" + " ---: |" * len(pieces))
    for text in arguments.networks.split(","):
        name, size = text.split(":")
        network = build_network(config_of(name, int(size)), 2)
        times = [f"{1e3 * step(network, int(size), arguments.batch, piece):.0f} ms" for piece in pieces]
        print(f"| {name} at {size} px | " + " | ".join(times) + " |", flush=True)


def config_of(name: str, size: int) -> ModelConfig:
    """A model's option file, at another size."""
    from pathlib import Path

    from hydra import compose, initialize_config_dir

    from raylight.config.launch import load_config, register_schema

    register_schema()
    own = name.startswith("cnn")
    chosen = [f"model={name}"] if own else ["model=torchvision", f"model.name={name}", "model.weights=null"]
    with initialize_config_dir(str(Path(__file__).resolve().parents[2] / "conf"), version_base="1.3"):
        return load_config(compose("train", overrides=[*chosen, f"model.image_size={size}"])).model


def step(network: StagedNetwork, size: int, batch: int, piece: int) -> float:
    """Seconds of the fastest step."""
    network.train()
    if any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in network.modules()):
        raise SystemExit("a network with BatchNorm can't be trained in pieces")
    images = torch.rand(batch, 3, size, size).contiguous(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (batch,))
    optimizer = torch.optim.Adam(network.parameters())

    def parts() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return zip(images.split(piece), targets.split(piece), strict=True)

    seconds = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        optimizer.zero_grad()
        for some, theirs in parts():
            with torch.autocast("cpu", torch.bfloat16, enabled=bf16_supported()):
                logits = class_logits(network.run(some, 0, None)).float()
            (torch.nn.functional.cross_entropy(logits, theirs, reduction="sum") / batch).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


if __name__ == "__main__":
    main()
