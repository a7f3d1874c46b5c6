"""Broken images by the ten thousand: each must end in pixels or in a reason, in little time and memory.

    make fuzz ARGS="--inputs 20000 --seed 1"

Each input is decoded in a worker process of limited memory. Counted as a fault: a crash of the process, any exception but
``BadImageError``, more than 2 s of processor time, more than 1 GB of memory, and a file cut off (or a PNG with flipped
bits) that was accepted with another picture than the whole file's. An input that shows a fault is kept. The table in
README.md is written by this command.
"""

import argparse
import hashlib
import importlib
import multiprocessing
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from experiments.reliability.mutations import Case, cases, drawn_files, real_files
from experiments.reliability.tables import replace_table

SECONDS = 2.0
"""Processor time for one file."""
BYTES = 1_000_000_000
"""Memory for one file."""
PATIENCE = 30.0
"""Seconds of wall time after which a worker hangs, however busy the machine is."""
FAULTS = ("crashed", "hung", "raised", "slow", "memory", "wrong")
DECODER = "raylight.data.decode.image:decode_image"


class Verdict(NamedTuple):
    """What became of one input.

    Attributes:
        end: ``pixels``, ``reason``, or one of ``FAULTS``.
        detail: the reason, or what went wrong.
        seconds: processor time.
        peak: bytes of memory on top of what the worker had.
    """

    end: str
    detail: str
    seconds: float
    peak: int


def work(connection: Connection, decoder: str) -> None:
    """A worker's life: receive (data, whole), answer with a verdict, until the pipe is closed."""
    from raylight.data.decode.spec import DecodeSpec
    from raylight.errors import BadImageError

    module, _, name = decoder.partition(":")
    decode = getattr(importlib.import_module(module), name)
    spec = DecodeSpec(64, "crop")
    for data in drawn_files().values():  # everything that decoding imports is imported now
        decode(data, spec)
    limit = _memory("VmSize") + BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    pictures: dict[bytes, Any] = {}

    def picture_of(whole: bytes) -> Any:
        key = hashlib.sha256(whole).digest()
        if key not in pictures:
            pictures[key] = decode(whole, spec)
        return pictures[key]

    connection.send(None)
    while True:
        try:
            data, whole = connection.recv()
        except EOFError:
            return
        expected = None if whole is None else picture_of(whole)
        before = _reset_peak()
        begin = time.process_time()
        try:
            pixels = decode(data, spec)
            end, detail = "pixels", ""
            if expected is not None and not np.array_equal(pixels, expected):
                end, detail = "wrong", "accepted with another picture"
        except BadImageError as error:
            end, detail = "reason", str(error)
        except MemoryError:
            end, detail = "memory", "asked for more than 1 GB"
        except Exception as error:
            end, detail = "raised", f"{type(error).__name__}: {error}"
        seconds, peak = time.process_time() - begin, _memory("VmHWM") - before
        if peak > BYTES:
            end, detail = "memory", f"{peak / 1e9:.2f} GB"
        elif seconds > SECONDS:
            end, detail = "slow", f"{seconds:.1f} s ({detail or 'accepted'})"
        connection.send(Verdict(end, detail, seconds, peak))


def judged(inputs: Iterable[Case], workers: int, decoder: str = DECODER) -> Iterator[tuple[Case, Verdict]]:
    """Decodes every input in worker processes; one that crashes or hangs is replaced."""
    context = multiprocessing.get_context("spawn")
    waiting = iter(inputs)

    def start() -> tuple[Any, Any]:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, decoder), daemon=True)
        process.start()
        theirs.close()
        return process, ours

    busy: dict[Any, tuple[Any, Case | None, float]] = {}
    for _ in range(workers):
        process, pipe = start()
        busy[pipe] = (process, None, time.monotonic())
    try:
        while busy:
            ready = wait(list(busy), timeout=1.0)
            now = time.monotonic()
            for pipe in [pipe for pipe in busy if pipe in ready or now - busy[pipe][2] > PATIENCE]:
                process, case, _ = busy.pop(pipe)
                verdict: Verdict | None = None
                if pipe in ready:
                    try:
                        verdict = pipe.recv()
                    except EOFError:
                        process.join()
                        verdict = Verdict("crashed", f"exit code {process.exitcode}", 0.0, 0)
                else:
                    process.kill()
                    verdict = Verdict("hung", f"no answer in {PATIENCE:.0f} s", PATIENCE, 0)
                if case is None and verdict is not None:
                    raise RuntimeError(f"a worker didn't start: {verdict}")
                if case is not None and verdict is not None:
                    yield case, verdict
                    if verdict.end in ("crashed", "hung"):
                        process, pipe = start()
                        busy[pipe] = (process, None, time.monotonic())
                        continue
                if (following := next(waiting, None)) is not None:
                    pipe.send((following.data, following.whole))
                    busy[pipe] = (process, following, time.monotonic())
                else:
                    pipe.close()
                    process.join()
    finally:
        for process, _, _ in busy.values():
            process.kill()


def main() -> int:
    """Fuzz, count, write the table; 1 when anything was at fault."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=20_000, help="broken files to make")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--keep", type=Path, default=Path("outputs/fuzz"), help="where inputs that show a fault are kept"
    )
    parser.add_argument("--table", action="store_true", help="write the counts into README.md")
    arguments = parser.parse_args()
    files = drawn_files()
    if root := os.environ.get("RAYLIGHT_REAL_DATA"):
        files |= real_files(Path(root), 30)
    begin = time.monotonic()
    ends: Counter[str] = Counter()
    by_mutation: dict[str, Counter[str]] = {}
    slowest, largest = (0.0, ""), (0, "")
    for case, verdict in judged(
        cases(files, arguments.inputs, np.random.default_rng(arguments.seed)), arguments.workers
    ):
        ends[verdict.end] += 1
        kind = "cut off" if case.mutation.startswith("cut off") else case.mutation
        by_mutation.setdefault(kind, Counter())[verdict.end] += 1
        slowest = max(slowest, (verdict.seconds, f"{case.name}, {case.mutation}"))
        largest = max(largest, (verdict.peak, f"{case.name}, {case.mutation}"))
        if verdict.end in FAULTS:
            arguments.keep.mkdir(parents=True, exist_ok=True)
            kept = arguments.keep / f"{verdict.end}-{hashlib.sha256(case.data).hexdigest()[:12]}"
            kept.write_bytes(case.data)
            print(f"{verdict.end}: {case.name}, {case.mutation}: {verdict.detail} ({kept})", flush=True)
    faults = sum(ends[fault] for fault in FAULTS)
    lines = [
        "| mutation | inputs | refused with a reason | accepted | faults |",
        "| --- | ---: | ---: | ---: | ---: |",
        *(
            f"| {kind} | {counts.total():,} | {counts['reason']:,} | {counts['pixels']:,} "
            f"| {sum(counts[fault] for fault in FAULTS)} |"
            for kind, counts in sorted(by_mutation.items())
        ),
        f"| all | {ends.total():,} | {ends['reason']:,} | {ends['pixels']:,} | {faults} |",
        "",
        f"{len(files)} files to begin with, seed {arguments.seed}, {time.monotonic() - begin:.0f} s. Slowest: "
        f"{slowest[0]:.2f} s of processor time ({slowest[1]}). Most memory: {largest[0] / 1e6:.0f} MB ({largest[1]}).",
    ]
    print("\n".join(lines))
    if arguments.table:
        replace_table(Path(__file__).with_name("README.md"), "fuzz", lines)
    return int(faults > 0)


def _memory(field: str) -> int:
    """A line of /proc/self/status, in bytes."""
    with Path("/proc/self/status").open() as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def _reset_peak() -> int:
    """Starts the peak of resident memory anew; returns what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return _memory("VmRSS")


if __name__ == "__main__":
    sys.exit(main())
