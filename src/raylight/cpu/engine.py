"""Runs the frozen part of a network, or a whole one, without gradients, as fast as the processor allows.

The network is rewritten once (``program``). Its input is then processed in micro-batches by one thread per core, each of which
computes alone: micro-batches fit into the caches of the cores, and no thread waits for another.

Results are float32, and equal to those of the network in eval mode up to rounding: 1e-4 of the standard deviation of the
outputs in fp32, a few hundredths of it in bf16, a tenth in int8. The images of a micro-batch don't influence each other, but
the order of summation depends on its size, so the last digits of a result may depend on the number of images.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import nn

from raylight.cpu.program import Program, Rows, ranges_on, rewrite
from raylight.cpu.quantising import Ranges
from raylight.machine import processor_flags
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.process import torch_threads, use_one_thread

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}

CALIBRATION_IMAGES = 128
"""Training images on which int8's ranges of activations are measured."""


@dataclass(frozen=True)
class Int8:
    """The precision int8: convolutions in int8, what else there is in bf16.

    Attributes:
        ranges: of the network's activations, by ``measured_on``.
    """

    ranges: Ranges

    @classmethod
    def measured_on(
        cls,
        network: StagedNetwork,
        preprocessing: Preprocessing,
        pixels: UInt8[np.ndarray, "image height width 3"],
    ) -> "Int8":
        """Measures the ranges of a network's activations; no ranges if nothing of it can be computed in int8.

        Runs on as many threads as torch's operators would use, each of which computes alone.
        """
        with _workers(torch.get_num_threads()) as pool:
            return cls(ranges_on(_copied(network, 0, None), preprocessing, pixels, pool.map))

    def __str__(self) -> str:
        return "int8"


Precision = str | Int8
"""``fp32``, ``bf16`` or int8 with its ranges."""


def bf16_supported() -> bool:
    """Whether the processor has instructions for bfloat16; emulated, it is slower than float32."""
    return bool(processor_flags() & {"avx512_bf16", "amx_bf16", "bf16"})  # the last is ARM's name


class InferenceEngine:
    """Runs some stages of a network on the CPU.

    The weights are copied when the engine is made; it doesn't follow later training.

    Args:
        network: its stages are copied and run in eval mode.
        start: first stage to run. 0 takes uint8 pixels, anything else the float32 features that enter that stage.
        stop: first stage not to run; ``None`` runs to the logits.
        preprocessing: of the pixels; only needed for ``start=0``.
        precision: ``fp32``, ``bf16``, or ``Int8``, for an engine that starts from features the same as ``bf16``.
        threads: number of worker threads; ``None`` takes as many as torch's operators would use.
    """

    micro_batch = 16
    """Images that a thread computes at once. Stages with large activations split them further."""

    def __init__(
        self,
        network: StagedNetwork,
        start: int = 0,
        stop: int | None = None,
        preprocessing: Preprocessing | None = None,
        precision: Precision = "fp32",
        threads: int | None = None,
    ) -> None:
        if isinstance(precision, str) and precision not in _DTYPES:
            raise ValueError(f"precision: {precision!r} is none of {', '.join(_DTYPES)}")
        if start == 0 and preprocessing is None:
            raise ValueError("preprocessing: needed by an engine that starts from pixels")
        self._stages = _copied(network, start, stop)
        self._preprocessing = preprocessing if start == 0 else None
        self._dtype = _DTYPES[precision] if isinstance(precision, str) else torch.bfloat16
        self._ranges = precision.ranges if isinstance(precision, Int8) else None
        self._threads = threads or torch.get_num_threads()
        self._programs: dict[tuple[int, ...], Program] = {}

    def __call__(self, inputs: Shaped[np.ndarray, "image ..."]) -> Float[np.ndarray, "image ..."]:
        """Computes the outputs for all images.

        Args:
            inputs: pixels, uint8[image, height, width, 3], or features, float32[image, ...].

        Returns:
            float32, in the order of the images.
        """
        rows = np.arange(len(inputs))
        outputs = np.empty((len(inputs), *self.output_shape(inputs.shape[1:])), np.float32)
        self.run_into(outputs, rows, inputs, rows)
        return outputs

    def run_into(
        self,
        outputs: Float[np.ndarray, "output ..."],
        output_rows: Int64[np.ndarray, " image"],
        store: Rows,
        rows: Int64[np.ndarray, " image"],
        on_progress: Callable[[int], None] | None = None,
    ) -> None:
        """Computes the outputs for some rows of an array, such as a memory map, into rows of another.

        Rows that aren't in an array are made by the threads that compute their outputs.

        Args:
            outputs: float32, written in place.
            output_rows: row of each image's output.
            store: pixels, uint8[row, height, width, 3], or features, float32[row, ...].
            rows: the rows to compute.
            on_progress: called in this thread with the number of images done since the last call.
        """
        program = self._program(store.shape[1:])
        size = max(1, min(self.micro_batch, -(-len(rows) // self._threads)))
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
        """Shape of the output per image, for an input of a shape: (height, width, 3), or that of features."""
        return self._program(input_shape).output_shape

    def _program(self, input_shape: tuple[int, ...]) -> Program:
        if input_shape not in self._programs:
            shape = (3, *input_shape[:2]) if self._preprocessing is not None else input_shape
            example = torch.zeros(1, *shape)
            self._programs[input_shape] = rewrite(
                self._stages, example, self._preprocessing, self._dtype, self.micro_batch, self._ranges
            )
        return self._programs[input_shape]


def _copied(network: StagedNetwork, start: int, stop: int | None) -> list[nn.Module]:
    stages = [network.stage(position) for position in range(len(network.stage_names))[start:stop]]
    return [stage.eval().cpu() for stage in copy.deepcopy(stages)]


@contextmanager
def _workers(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads whose torch operators each use one thread."""
    all_started = threading.Barrier(count + 1)

    def start() -> None:
        try:
            use_one_thread()
        except BaseException:
            all_started.abort()
            raise
        all_started.wait()

    with ThreadPoolExecutor(count, thread_name_prefix="raylight-inference", initializer=start) as pool:
        try:
            with torch_threads():
                for _ in range(count):
                    pool.submit(int)
                all_started.wait()
        except BaseException:  # if a thread can't be started, the others must not wait for it
            all_started.abort()
            raise
        yield pool
