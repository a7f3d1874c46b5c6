"""Ray Data against threads: what decoding many files into the cache costs each of them.

    python -m experiments.cluster.decode_rate --photos DIR [--repeat 12] [--size 224] [--turns 3] [--table]

Takes each photo so many times under other names (a number after the JPEG's end marker makes each content another one, at
most 25,000 in all), then lets both engines fill a cache in turns, in one warm Ray session. Told are images a second, and
images a second of processor time: user and system time of this process and everything below it, Ray's own processes
included, its start excluded. The latter hardly changes when other programs keep the machine busy. The median turn
counts. Both caches must be the same, byte by byte.
"""

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import psutil
from experiments.memory.photos import repeated_photos
from experiments.reliability.tables import replace_table

from raylight.config.schema import RayConfig
from raylight.data.cache_files import PIXELS, SIDECAR, write_cache
from raylight.data.decode.blocks import Engine
from raylight.data.decode.spec import DecodeSpec
from raylight.machine import usable_cpus
from raylight.runs.ray_session import ray_session


def main() -> int:
    """Measure both engines and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG files")
    parser.add_argument("--repeat", type=int, default=12, help="how often each photo is taken")
    parser.add_argument("--size", type=int, default=224, help="height and width, in pixels")
    parser.add_argument("--turns", type=int, default=3, help="times that each engine fills a cache")
    parser.add_argument("--table", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="raylight-rate-"))
    try:
        files = repeated_photos(arguments.photos, folder / "photos", arguments.repeat)
        paths = {sha256(file.read_bytes()).hexdigest(): [file] for file in files}
        seconds: dict[str, list[tuple[float, float]]] = {"threads": [], "ray": []}
        contents = set()
        with ray_session(RayConfig()):
            fill(folder, dict(list(paths.items())[:200]), "ray", arguments.size)  # workers start
            for _ in range(arguments.turns):
                for engine, measured in seconds.items():
                    wall, cpu, content = fill(folder, paths, engine, arguments.size)
                    measured.append((wall, cpu))
                    contents.add(content)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if len(contents) != 1:
        sys.exit("the caches differ")
    rates = {
        engine: tuple(len(paths) / statistics.median(turn[which] for turn in measured) for which in (0, 1))
        for engine, measured in seconds.items()
    }
    lines = [
        f"{len(paths):,} photos to {arguments.size} x {arguments.size} pixels, {usable_cpus()} cores:",
        "",
        "| engine | images/s | images/s of processor time |",
        "| --- | ---: | ---: |",
        *(f"| {engine} | {wall:,.0f} | {cpu:,.0f} |" for engine, (wall, cpu) in rates.items()),
        "| ray / threads | " + " | ".join(f"{rates['ray'][n] / rates['threads'][n]:.2f}" for n in (0, 1)) + " |",
    ]
    print("\n".join(lines))
    if arguments.table:
        replace_table(Path(__file__).with_name("README.md"), "decode rate", lines)
    return 0


def fill(folder: Path, paths: dict[str, list[Path]], engine: str, size: int) -> tuple[float, float, str]:
    """Seconds and processor seconds of filling a cache, and a fingerprint of its files."""
    cache = folder / "cache"
    cache.mkdir()
    try:
        begin, used = time.perf_counter(), processor_seconds()
        write_cache(cache, paths, DecodeSpec(size, "stretch"), Engine(engine), nothing)
        wall, cpu = time.perf_counter() - begin, processor_seconds() - used
        content = sha256()
        for name in (PIXELS, SIDECAR):
            with (cache / name).open("rb") as file:
                while part := file.read(1 << 24):
                    content.update(part)
        return wall, cpu, content.hexdigest()
    finally:
        shutil.rmtree(cache)


def processor_seconds() -> float:
    """User and system time so far of this process, those below it, and those that they have seen end."""
    this = psutil.Process()
    times = []
    for process in [this, *this.children(recursive=True)]:
        try:
            times.append(process.cpu_times())
        except psutil.NoSuchProcess:
            continue
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


nothing: Callable[[int, int], None] = lambda done, of: None  # noqa: E731


if __name__ == "__main__":
    sys.exit(main())
