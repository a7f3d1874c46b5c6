"""Ray Data against threads: what reading and decoding a new data set costs each of them, and from how many images Ray pays.

    python -m experiments.cluster.decode_rate --photos DIR [--repeat 13] [--size 224] [--turns 3] [--table]

Takes each photo so many times under other names (a number after the JPEG's end marker makes each content another one, at
most 25,000 in all). Both engines index and decode them in one pass into an empty cache folder, in turns, each in a process of
its own that has imported Raylight; before that, in the same turns, the first 16 of them, which shows what Ray costs without
work. Told are wall and processor seconds: user and system time of the process and everything below it, Ray's own processes
included. The median turn counts. Indexes and caches must be the same, byte by byte.
"""

import argparse
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import psutil
from experiments.memory.photos import repeated_photos
from experiments.reliability.tables import replace_table

FEW = 16
"""Images whose decoding takes no time beside Ray's start."""
PARTS = ("start", "pass", "close", "cpu")
"""Seconds of Ray's start, with its import; of the pass; of Ray's end; processor seconds of all."""


def main() -> int:
    """Measure both engines and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG files")
    parser.add_argument("--repeat", type=int, default=13, help="how often each photo is taken")
    parser.add_argument("--size", type=int, default=224, help="height and width, in pixels")
    parser.add_argument("--turns", type=int, default=3, help="times that each engine decodes them")
    parser.add_argument("--table", action="store_true", help="write the table into README.md")
    parser.add_argument("--turn", nargs=2, metavar=("ENGINE", "IMAGES"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.turn:
        print(json.dumps(one_turn(arguments.photos, arguments.turn[0], int(arguments.turn[1]), arguments.size)))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="raylight-rate-"))
    try:
        count = len(repeated_photos(arguments.photos, folder / "photos", arguments.repeat))
        found: dict[tuple[str, int], list[dict[str, float]]] = {}
        contents: dict[int, set[float]] = {}
        for _ in range(arguments.turns):
            for images in (FEW, count):
                for engine in ("threads", "ray"):
                    turn = in_a_process(folder / "photos", engine, images, arguments.size)
                    found.setdefault((engine, images), []).append(turn)
                    contents.setdefault(images, set()).add(turn["content"])
                    print(engine, images, turn, flush=True)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if any(len(different) > 1 for different in contents.values()):
        sys.exit("the indexes or caches differ")
    lines = table(
        {
            key: {part: statistics.median(turn[part] for turn in turns) for part in PARTS}
            for key, turns in found.items()
        },
        count,
    )
    print("\n".join(lines))
    if arguments.table:
        replace_table(Path(__file__).with_name("README.md"), "decode rate", lines)
    return 0


def table(found: dict[tuple[str, int], dict[str, float]], count: int) -> list[str]:
    """The medians, the ratio of the engines, Ray's fixed cost, and from how many images on Ray is the faster one."""
    rows = [
        f"| {images:,} | {engine} | {one['start']:.1f} | {one['pass']:.1f} | {one['close']:.1f} | {one['cpu']:.1f} |"
        for (engine, images), one in found.items()
    ]
    ray, threads, idle, none = (
        found[key] for key in (("ray", count), ("threads", count), ("ray", FEW), ("threads", FEW))
    )
    fixed = idle["start"] + idle["pass"] - none["pass"]
    gain = ((threads["pass"] - none["pass"]) - (ray["pass"] - idle["pass"])) / (count - FEW)
    ratios = [(ray["start"] + ray["pass"]) / threads["pass"], ray["cpu"] / threads["cpu"]]
    if gain > 0:
        verdict = f"{1e6 * gain:.0f} us less than threads, so it is the faster one from {fixed / gain:,.0f} images on."
    else:
        verdict = f"{-1e6 * gain:.0f} us more than threads, so it is never the faster one on this machine."
    return [
        "| images | engine | start | index and decode | end | processor seconds |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
        *rows,
        "",
        f"Of {count:,} images, Ray takes {ratios[0]:.2f} times the seconds of threads, its start included "
        f"({ratios[1]:.2f} times the processor seconds). Without work it costs {fixed:.1f} s until its last image, "
        f"{idle['close']:.1f} s after that, {idle['cpu'] - none['cpu']:.1f} s of processor time. Per image it takes {verdict}",
    ]


def in_a_process(photos: Path, engine: str, images: int, size: int) -> dict[str, float]:
    """One turn in a process of its own."""
    module = [sys.executable, "-m", "experiments.cluster.decode_rate"]
    arguments = ["--photos", str(photos), "--turn", engine, str(images), "--size", str(size)]
    done = subprocess.run([*module, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def one_turn(photos: Path, engine: str, images: int, size: int) -> dict[str, float]:
    """Seconds of one turn, and a fingerprint of index and cache."""
    from raylight.config.schema import DataConfig, RayConfig
    from raylight.data.cache import cached_images
    from raylight.data.decode.blocks import Engine
    from raylight.data.decode.spec import DecodeSpec
    from raylight.data.index import build_index
    from raylight.data.scan.memory import Decoding
    from raylight.data.sources.source import find_images
    from raylight.machine import usable_cpus
    from raylight.runs.ray_session import ray_session

    spec = DecodeSpec(size, "stretch")
    cache_dir = Path(tempfile.mkdtemp(prefix="raylight-rate-"))
    try:
        source = find_images(DataConfig(root=str(photos)), cache_dir)
        source = replace(source, files=source.files[:images])
        clock, used = [time.perf_counter()], processor_seconds()
        with ray_session(RayConfig()) if engine == "ray" else nullcontext():
            clock.append(time.perf_counter())
            index = build_index(source, cache_dir, usable_cpus(), decoding=Decoding(spec, engine=Engine(engine)))
            clock.append(time.perf_counter())
            used = processor_seconds() - used
        clock.append(time.perf_counter())
        cache = cached_images(index, spec, Engine("threads"), cache_dir, decoded_again)
        content = sha256(repr(index.table.to_pydict()).encode() + cache.key.encode())
        for row in cache.pixels:
            content.update(row)
    finally:
        shutil.rmtree(cache_dir)
    seconds = [later - earlier for earlier, later in itertools.pairwise(clock)]
    return {**dict(zip(PARTS, [*seconds, used], strict=True)), "content": int(content.hexdigest()[:12], 16)}


def decoded_again(*_: int) -> None:
    """Called only if the pass has left no cache."""
    raise AssertionError("decoded again")


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


if __name__ == "__main__":
    sys.exit(main())
