"""Images a second of a network as people run it, and of the inference engine, over the same decoded images.

    python experiments/transfer/inference_pass.py MODEL WEIGHTS IMAGES.npy

Prints one line of JSON. The plain pass is fp32 in batches of 64 on all cores, in ``torch.inference_mode``; it takes eight
batches, the engine all images. Each is run twice and the faster one counts.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from raylight.config.schema import ModelConfig
from raylight.cpu.engine import InferenceEngine, bf16_supported
from raylight.machine import usable_cpus
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing


def main() -> None:
    """Measure both in turns."""
    model, weights, images = sys.argv[1], sys.argv[2], np.load(Path(sys.argv[3]), mmap_mode="r")
    torch.set_num_threads(usable_cpus())
    settings = ModelConfig(
        name=model, family="torchvision", weights=weights, image_size=224, resize="crop", normalize="imagenet"
    )
    network = build_network(settings, 2).eval()
    preprocessing = Preprocessing.from_config(settings)
    precision = "bf16" if bf16_supported() else "fp32"
    engine = InferenceEngine(network, 0, None, preprocessing, precision=precision, threads=usable_cpus())
    few = torch.from_numpy(np.array(images[:512])).permute(0, 3, 1, 2).contiguous()

    def plain() -> None:
        with torch.inference_mode():
            for batch in few.split(64):
                network(preprocessing.normalise(batch).contiguous())

    engine(images[:64])
    seconds = [(timed(plain), timed(lambda: engine(images))) for _ in range(2)]
    slow, fast = (min(column) for column in zip(*seconds, strict=True))
    print(
        json.dumps(
            {
                "images": len(images),
                "plain_images_per_s": len(few) / slow,
                "engine_images_per_s": len(images) / fast,
                "settings": f"{precision}, {usable_cpus()} threads",
            }
        )
    )


def timed(work: Callable[[], object]) -> float:
    """Seconds that some work takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
