"""The limit of an epoch: the run's own network and settings on float tensors that lie in memory already.

    python experiments/speed/in_memory.py --run RUN [--epochs 2]

No files, no cache, no augmentation, no Lightning, no metrics: forward, loss, backward, optimizer step, then the forward pass
over validation. Prints one line of JSON.
"""

import argparse
import json
import time
from pathlib import Path

import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf

from raylight.config.check import load_config
from raylight.data.index import Index
from raylight.machine import keep_freed_memory
from raylight.models.build import build_network, class_logits


def main() -> None:
    """Time the epochs; random pixels train as fast as real ones."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, required=True, help="the Raylight run whose limit is sought")
    parser.add_argument("--epochs", type=int, default=2)
    arguments = parser.parse_args()
    config = load_config(OmegaConf.load(arguments.run / "config.yaml"))
    keep_freed_memory()
    torch.set_num_threads(config.trainer.threads or torch.get_num_threads())
    torch.set_flush_denormal(True)
    network = build_network(config.model, 2)
    optimizer = instantiate(config.optimizer)(network.parameters())
    size = config.model.image_size
    form = torch.channels_last if config.trainer.channels_last == "true" else torch.contiguous_format
    half = torch.autocast("cpu", torch.bfloat16, enabled=config.trainer.precision == "bf16")

    def batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        images = torch.randn(count, 3, size, size).contiguous(memory_format=form)
        targets = torch.randint(0, 2, (count,))
        whole = config.trainer.batch_size
        return list(zip(images.split(whole), targets.split(whole), strict=True))

    index = Index.read(arguments.run / "index.parquet")
    train, val = (batches(len(index.in_split(split))) for split in ("train", "val"))
    seconds = []
    for _ in range(arguments.epochs):
        begin = time.perf_counter()
        network.train()
        for images, targets in train:
            optimizer.zero_grad()
            with half:
                loss = torch.nn.functional.cross_entropy(class_logits(network(images)).float(), targets)
            loss.backward()
            optimizer.step()
        network.eval()
        with torch.no_grad(), half:
            for images, _ in val:
                network(images)
        seconds.append(round(time.perf_counter() - begin, 3))
    print(json.dumps({"epoch_seconds": seconds}))


if __name__ == "__main__":
    main()
