"""One engine with one network in one process: made once, measured each time a line comes in.

    python -m experiments.engine.worker FOLDER BACKEND PRECISION THREADS BATCHES

``FOLDER`` holds the network, ``pixels.npy`` and ``calibration.npy``. Replies are lines of JSON: first the batch size that was
the fastest of ``BATCHES`` (comma-separated), then for each line that is read the wall and CPU seconds of one pass over all
pixels. The probabilities of the first pass are written into the folder.
"""

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("ONNX_QUANTIZATION_LOG_LEVEL", "ERROR")

import numpy as np
from experiments.engine.backends import BUILDERS, Runner, Task


class Measured:
    """A network in an engine, with its worker threads.

    Args:
        backend: name in ``BUILDERS``.
        task: what is measured.
    """

    def __init__(self, backend: str, task: Task) -> None:
        self.batch = task.batch
        make = BUILDERS[backend](task)
        self.runners: list[Runner] = []
        # A runner is made in the thread that uses it: torch's number of threads is a property of the thread.
        self.pool = ThreadPoolExecutor(task.threads, initializer=lambda: self.runners.append(make()))
        self.free: list[Runner] = self.runners

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """The probabilities of all images; their number is a multiple of the batch size."""

        def compute(begin: int) -> np.ndarray:
            runner = self.free.pop()
            try:
                return runner(pixels[begin : begin + self.batch])
            finally:
                self.free.append(runner)

        return np.concatenate(list(self.pool.map(compute, range(0, len(pixels), self.batch))))


def main() -> None:
    """Choose the batch size, then measure on demand."""
    folder, backend, precision, threads = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    replies, sys.stdout = sys.stdout, sys.stderr  # engines print as they like
    pixels, calibration = np.load(folder / "pixels.npy"), np.load(folder / "calibration.npy")
    best: tuple[float, Measured] | None = None
    for batch in map(int, sys.argv[5].split(",")):
        measured = Measured(backend, Task(folder, precision, threads, batch, calibration))
        few = pixels[: max(64, 2 * threads * batch)]
        measured.probabilities(few)
        seconds = min(_timed(measured, few)[0] for _ in range(2)) / len(few)
        if best is None or seconds < best[0]:
            best = seconds, measured
    assert best is not None
    chosen = best[1]
    np.save(folder / f"{backend}-{precision}-{threads}.npy", chosen.probabilities(pixels))
    print(json.dumps({"batch": chosen.batch}), file=replies, flush=True)
    for _ in sys.stdin:
        wall, cpu = _timed(chosen, pixels)
        print(json.dumps({"wall": wall, "cpu": cpu}), file=replies, flush=True)


def _timed(measured: Measured, pixels: np.ndarray) -> tuple[float, float]:
    begin, cpu = time.perf_counter(), time.process_time()
    measured.probabilities(pixels)
    return time.perf_counter() - begin, time.process_time() - cpu


if __name__ == "__main__":
    main()
