"""Runs the frozen part of a network, or a whole one, without gradients, as fast as the processor allows.

The network is rewritten once (``program``). Its input is then processed in micro-batches by one thread per core, each of which
computes alone: micro-batches fit into the cores' caches, and no thread waits for another. Leaves out what to run, and where
results are kept.

Results are float32, and equal to those of the network in eval mode up to rounding: 1e-4 of the outputs' standard deviation in
fp32, a few hundredths of it in bf16. The images of a micro-batch don't influence each other, but sizes differ in the order of
summation, so that the last digits of an image's result may depend on the number of images.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped
from torch import nn

from raylight.cpu.program import Program, rewrite
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.process import torch_threads, use_one_thread

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def bf16_supported() -> bool:
    """Whether the processor multiplies bfloat16 itself; emulated, it is slower than float32."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        flags = set(cpuinfo.read_text().split())
        return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})  # the last is ARM's name
    return False


class InferenceEngine:
    """Runs stages ``start`` to ``stop`` of a network on the processor.

    The weights are copied when the engine is made; later training doesn't reach it.

    Args:
        network: its stages are copied and run in eval mode, whatever mode it is in.
        start: first stage to run. 0 takes uint8 pixels, anything else the float32 features that enter that stage.
        stop: first stage not to run; None runs to the logits.
        preprocessing: of the pixels; only needed for ``start=0``.
        precision: ``fp32`` or ``bf16``.
        threads: worker threads; None takes as many as torch's operators would use.
    """

    piece = 16
    """Images that a thread computes at once. Stages with large activations split them further."""

    def __init__(
        self,
        network: StagedNetwork,
        start: int = 0,
        stop: int | None = None,
        preprocessing: Preprocessing | None = None,
        precision: str = "fp32",
        threads: int | None = None,
    ) -> None:
        if precision not in _DTYPES:
            raise ValueError(f"precision: {precision!r} is none of {', '.join(_DTYPES)}")
        if start == 0 and preprocessing is None:
            raise ValueError("preprocessing: needed by an engine that starts from pixels")
        self._stages = _copied(network, start, stop)
        self._preprocessing = preprocessing if start == 0 else None
        self._dtype = _DTYPES[precision]
        self._threads = threads or torch.get_num_threads()
        self._programs: dict[tuple[int, ...], Program] = {}

    def __call__(self, inputs: Shaped[np.ndarray, "image ..."]) -> Float[np.ndarray, "image ..."]:
        """Outputs of all images.

        Args:
            inputs: uint8[image, height, width, 3], or float32[image, ...] features.
        """
        rows = np.arange(len(inputs))
        outputs = np.empty((len(inputs), *self.output_shape(inputs.shape[1:])), np.float32)
        self.run_into(outputs, rows, inputs, rows)
        return outputs

    def run_into(
        self,
        outputs: Float[np.ndarray, "output ..."],
        output_rows: Int64[np.ndarray, " image"],
        store: Shaped[np.ndarray, "row ..."],
        rows: Int64[np.ndarray, " image"],
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Compute some rows of a store, such as a memory map, into rows of another.

        Args:
            outputs: float32, written in place.
            output_rows: where each image's output goes.
            store: uint8[row, height, width, 3], or float32[row, ...] features.
            rows: which rows to compute.
            on_progress: called in this thread with the number of images done since the last call.
        """
        program = self._program(store.shape[1:])
        size = max(1, min(self.piece, -(-len(rows) // self._threads)))
        starts = range(0, len(rows), size)

        def work(begin: int) -> int:
            chosen = slice(begin, begin + size)
            with torch.inference_mode():
                outputs[output_rows[chosen]] = program(store, rows[chosen]).numpy()
            return len(rows[chosen])

        with _workers(min(self._threads, len(starts))) as pool:
            try:
                for done in as_completed([pool.submit(work, begin) for begin in starts]):
                    count = done.result()
                    if on_progress is not None:
                        on_progress(count)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def output_shape(self, input_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of one image's output, for inputs of a shape (height, width, 3), or that of its features."""
        return self._program(input_shape).output_shape

    def _program(self, input_shape: tuple[int, ...]) -> Program:
        if input_shape not in self._programs:
            shape = (3, *input_shape[:2]) if self._preprocessing is not None else input_shape
            example = torch.zeros(1, *shape)
            self._programs[input_shape] = rewrite(self._stages, example, self._preprocessing, self._dtype, self.piece)
        return self._programs[input_shape]


def _copied(network: StagedNetwork, start: int, stop: int | None) -> list[nn.Module]:
    stages = [network.stage(position) for position in range(len(network.stage_names))[start:stop]]
    return [stage.eval().cpu() for stage in copy.deepcopy(stages)]


@contextmanager
def _workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose torch operators each use one thread."""
    all_here = threading.Barrier(count + 1)

    def start() -> None:
        try:
            use_one_thread()
        except BaseException:
            all_here.abort()
            raise
        all_here.wait()

    with ThreadPoolExecutor(count, thread_name_prefix="raylight-inference", initializer=start) as pool:
        try:
            with torch_threads():
                for _ in range(count):
                    pool.submit(int)
                all_here.wait()
        except BaseException:  # a thread that can't be started must not leave the others waiting
            all_here.abort()
            raise
        yield pool
