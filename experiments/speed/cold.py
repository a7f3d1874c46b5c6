"""Index and decode a new data set: one pass against the two before, and against libjpeg-turbo alone at the same scale.

    python experiments/speed/cold.py FOLDER [--before SRC] [--size 224] [--resize stretch] [--workers 1] [--turns 5]

Each way goes over the same files in turns, each turn in a process of its own and a cache folder of its own. ``before`` is the
source folder of an older revision (``git worktree add``), which indexes, then decodes; without it, this revision does so. The
limit, in one thread, reads each file and decodes JPEG at the scale that ours takes, the rest with Pillow; nothing is checked,
resized or written.
Prints one line of JSON: the median turn's microseconds per image, wall and processor, and the ratios to ours.
"""

import argparse
import inspect
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

SOURCE = Path(__file__).resolve().parents[2] / "src"


def main() -> None:
    """Measure all ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path, default=SOURCE, help="source folder of an older revision")
    parser.add_argument("--size", type=int, default=224, help="height and width, in pixels")
    parser.add_argument("--resize", default="stretch", choices=("stretch", "crop"))
    parser.add_argument("--workers", type=int, default=1, help="threads")
    parser.add_argument("--turns", type=int, default=5, help="times that each way is measured")
    parser.add_argument("--way", choices=("before", "ours", "limit"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.way is not None:
        print(json.dumps(one_turn(arguments)))
        return
    sources = {"before": arguments.before, "ours": SOURCE, "limit": SOURCE}
    turns: dict[str, list[dict[str, float]]] = {way: [] for way in sources}
    for _ in range(arguments.turns):
        for way, source in sources.items():
            command = [sys.executable, __file__, *sys.argv[1:], "--way", way]
            environment = {**os.environ, "PYTHONPATH": str(source)}
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            turns[way].append(json.loads(done.stdout.splitlines()[-1]))
    found = {
        way: {clock: round(statistics.median(turn[clock] for turn in turns[way])) for clock in ("wall", "cpu")}
        for way in turns
    }
    ratios = {
        f"{way} / ours": {
            clock: round(
                statistics.median(a[clock] / b[clock] for a, b in zip(turns[way], turns["ours"], strict=True)), 2
            )
            for clock in ("wall", "cpu")
        }
        for way in ("before", "limit")
    }
    print(json.dumps({"folder": arguments.folder.name, "workers": arguments.workers, **found, **ratios}))


def one_turn(arguments: argparse.Namespace) -> dict[str, float]:
    """Microseconds per image of one turn, wall and processor."""
    from raylight.config.schema import DataConfig
    from raylight.data.sources.source import find_images

    cache = Path(tempfile.mkdtemp(prefix="raylight-cold-"))
    try:
        source = find_images(DataConfig(kind="folder", root=str(arguments.folder.resolve())), cache)
        work = limit if arguments.way == "limit" else cold
        work(source, cache / "first", arguments, 16)  # libraries are imported
        begin, used = time.perf_counter(), processor_seconds()
        work(source, cache / "second", arguments, len(source.files))
        seconds = {"wall": time.perf_counter() - begin, "cpu": processor_seconds() - used}
    finally:
        shutil.rmtree(cache)
    return {clock: 1e6 * value / len(source.files) for clock, value in seconds.items()}


def processor_seconds() -> float:
    """User and system time of this process so far."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def spec_of(arguments: argparse.Namespace) -> Any:
    """The shape of the images."""
    from raylight.data.decode.spec import DecodeSpec

    return DecodeSpec(arguments.size, arguments.resize)


def cold(source: Any, cache: Path, arguments: argparse.Namespace, count: int) -> None:
    """Index and decode, as a run does."""
    from dataclasses import replace

    from raylight.data.cache import cached_images
    from raylight.data.decode.blocks import Engine
    from raylight.data.index import build_index

    spec, options = spec_of(arguments), {}
    if arguments.way == "ours" and "decoding" in inspect.signature(build_index).parameters:
        from raylight.data.scan.memory import Decoding

        options = {"decoding": Decoding(spec)}
    index = build_index(replace(source, files=source.files[:count]), cache, arguments.workers, **options)
    cached_images(index, spec, Engine("threads", arguments.workers), cache, lambda *_: None)


def limit(source: Any, _: Path, arguments: argparse.Namespace, count: int) -> None:
    """Reading and decoding at the scale that ours takes, nothing else."""
    import simplejpeg
    from PIL import Image

    from raylight.data.decode.jpeg import _jpeg_scale
    from raylight.data.decode.jpeg_header import read_jpeg_header
    from raylight.machine import keep_freed_memory

    keep_freed_memory()
    spec = spec_of(arguments)
    for file in source.files[:count]:
        data = (source.root / file.path).read_bytes()
        if not simplejpeg.is_jpeg(data):
            Image.open(io.BytesIO(data)).load()
            continue
        header = read_jpeg_header(data)
        factor, fast = _jpeg_scale(header, spec)
        pixels = simplejpeg.decode_jpeg(
            data,
            colorspace={1: "GRAY", 3: "RGB", 4: "CMYK"}[header.components],
            fastupsample=fast,
            min_height=-(-header.height // factor),
            min_width=-(-header.width // factor),
        )
        assert isinstance(pixels, np.ndarray)


if __name__ == "__main__":
    main()
