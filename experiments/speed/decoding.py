"""Decode and resize, on one core: ours against Pillow as ImageFolder uses it, Ray's read_images, and bare libjpeg-turbo.

    python -m experiments.speed.decoding FOLDER [--size 224] [--images 1000] [--turns 3]

Each way goes over the same files in turns; the fastest turn counts. ``read_images`` runs as its documentation tells, on all
cores, and is compared with ours on all cores through Ray, in turns in one warm session, whose median counts. Prints one line
of JSON with images per second, through Ray per second of processor time (of all processes), too.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from experiments.cluster.decode_rate import processor_seconds

from raylight.machine import keep_freed_memory

SUFFIXES = {".jpg", ".jpeg", ".png"}


def main() -> None:
    """Measure all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", type=int, default=224, help="height and width, in pixels")
    parser.add_argument("--images", type=int, default=1000, help="files at most")
    parser.add_argument("--turns", type=int, default=3, help="times that each way is measured")
    arguments = parser.parse_args()
    files = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)[: arguments.images]
    ways = {"ours": ours, "pillow": pillow, "libjpeg_turbo_alone": bare}
    keep_freed_memory()  # as every process of ours does before it decodes; it serves all ways alike
    best = dict.fromkeys(ways, 0.0)
    for _ in range(arguments.turns):
        for name, way in ways.items():
            best[name] = max(best[name], len(files) / timed(way, files, arguments.size))
    found = {"images": len(files), **best, **through_ray(files, arguments.size, arguments.turns)}
    print(json.dumps({name: round(value, 1) for name, value in found.items()}))


def timed(work: Callable[[Sequence[Path], int], None], files: Sequence[Path], size: int) -> float:
    """Seconds of one turn."""
    begin = time.perf_counter()
    work(files, size)
    return time.perf_counter() - begin


def ours(files: Sequence[Path], size: int) -> None:
    """One thread of ``decode=threads``."""
    from raylight.data.decode.image import decode_image
    from raylight.data.decode.spec import DecodeSpec

    spec, pixels = DecodeSpec(size, "stretch"), np.empty((size, size, 3), np.uint8)
    for file in files:
        decode_image(file.read_bytes(), spec, pixels)


def pillow(files: Sequence[Path], size: int) -> None:
    """What ImageFolder's loader and ``transforms.Resize`` do."""
    from torchvision.datasets.folder import default_loader
    from torchvision.transforms import Resize

    resize = Resize((size, size))
    for file in files:
        np.asarray(resize(default_loader(str(file))))


def bare(files: Sequence[Path], _: int) -> None:
    """Reading and decoding at full size, nothing else: what no decoder of whole pictures can beat."""
    import simplejpeg

    for file in files:
        data = file.read_bytes()
        if simplejpeg.is_jpeg(data):
            simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)


def through_ray(files: Sequence[Path], size: int, turns: int) -> dict[str, float]:
    """Images per second of both in one warm session, and per second of processor time."""
    import ray

    from raylight.config.schema import RayConfig
    from raylight.data.decode.blocks import Engine
    from raylight.data.decode.engines import decode_files
    from raylight.data.decode.spec import DecodeSpec
    from raylight.runs.ray_session import ray_session

    def with_ours(some: Sequence[Path]) -> None:
        for _ in decode_files(some, DecodeSpec(size, "stretch"), Engine("ray")):
            pass

    def with_theirs(some: Sequence[Path]) -> None:
        images = ray.data.read_images([str(file) for file in some], size=(size, size), mode="RGB")
        for _ in images.iter_batches(batch_size=64, batch_format="numpy"):
            pass

    ways = {"ours_through_ray": with_ours, "ray_read_images": with_theirs}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    with ray_session(RayConfig()):
        for way in ways.values():
            way(files[:32])  # workers start
        for _ in range(turns):
            for name, way in ways.items():
                begin, used = time.perf_counter(), processor_seconds()
                way(files)
                seconds[name].append((time.perf_counter() - begin, processor_seconds() - used))
    return {
        name + clock: len(files) / statistics.median(turn[which] for turn in measured)
        for name, measured in seconds.items()
        for which, clock in enumerate(("", "_cpu"))
    }


if __name__ == "__main__":
    main()
