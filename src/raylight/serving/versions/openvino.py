"""A run's network computed by OpenVINO, an extra, certified on validation images.

The certificate is kept in the run folder (``openvino.json``); it holds for the weights, the release of OpenVINO, the precision
and the processor that it was made with.
"""

import importlib.util
import itertools
import sys
import warnings
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from raylight.errors import ConfigError
from raylight.installation import install_command
from raylight.machine import usable_cpus
from raylight.runs.environment import processor_name
from raylight.serving.predictor import Predictor, UnusableRunError, read_index
from raylight.serving.versions.certificate import certified, kept
from raylight.storage.digests import file_sha256

FILE = "openvino.json"

WAY_OUT = "leave out --engine openvino"

BATCH = 16
"""Images that a thread computes at once, at most."""


def open_openvino(run: Path, precision: str | None = None) -> Predictor:
    """Open a run whose network OpenVINO computes; certifies it first, if that hasn't been done for these weights here.

    Args:
        run: its folder.
        precision: ``fp32`` or ``bf16``; ``None`` takes the run's own.

    Raises:
        ConfigError: OpenVINO isn't installed.
        RefusedVersionError: the loss isn't excluded.
        UnusableRunError: the run can't be used, or its validation images are gone.
    """
    if importlib.util.find_spec("openvino") is None:
        raise ConfigError([f"--engine: OpenVINO isn't installed; install it with: {install_command('openvino')}"])
    predictor = Predictor.open(run, precision)
    changed = replace(predictor, engine=OpenVinoEngine(predictor, usable_cpus()))
    circumstances = {
        "weights": file_sha256(predictor.run / "model.safetensors"),
        "openvino": version("openvino"),
        "precision": str(predictor.precision),
        "processor": processor_name(),
    }
    if kept(predictor.run, FILE, circumstances, lambda facts: facts["certificate"]) is None:
        index = read_index(predictor.run)
        val = index.in_split("val")
        if not index.root.is_dir() or not len(val):
            raise UnusableRunError(
                f"OpenVINO is certified on the run's validation images, which are no longer in {index.root}; put them back, "
                f"or {WAY_OUT}."
            )
        found = certified(predictor, changed, val, "OpenVINO", WAY_OUT)
        predictor.run.write_json(FILE, {**circumstances, "certificate": found.as_json()})
    return changed


class OpenVinoEngine:
    """Computes a run's logits with OpenVINO on the CPU, in batches that run side by side.

    Args:
        predictor: the run; its precision is taken.
        threads: of the processor; each computes alone.
    """

    def __init__(self, predictor: Predictor, threads: int) -> None:
        # Importing OpenVINO tells its maker, unless each user has opted out or this package is missing.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino
        import openvino.properties as properties
        import openvino.properties.hint as hints

        size = predictor.preprocessing.decode_spec.image_shape
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch's tracer: each shape that it makes constant, and its successor
            model = openvino.convert_model(_Logits(predictor), example_input=torch.zeros(2, *size, dtype=torch.uint8))
        model.reshape([-1, *size])
        settings = {
            hints.inference_precision: openvino.Type.bf16 if predictor.precision == "bf16" else openvino.Type.f32,
            hints.enable_cpu_pinning: False,  # decoding shares the cores
            properties.inference_num_threads: threads,
            properties.num_streams: threads,
        }
        self._threads, self._outputs = threads, model.output(0).get_partial_shape()[1].get_length()
        self._queue = openvino.AsyncInferQueue(openvino.Core().compile_model(model, "CPU", settings), threads)
        self._queue.set_callback(_keep)

    def __call__(self, pixels: UInt8[np.ndarray, "image height width 3"]) -> Float[np.ndarray, "image output"]:
        """Computes the logits of all images, in their order."""
        found = np.empty((len(pixels), self._outputs), np.float32)
        parts = max(-(-len(pixels) // BATCH), min(self._threads, len(pixels)))
        edges = np.linspace(0, len(pixels), parts + 1).round().astype(int)
        for begin, end in itertools.pairwise(edges):
            self._queue.start_async([np.ascontiguousarray(pixels[begin:end])], userdata=found[begin:end])
        self._queue.wait_all()
        return found


def _keep(request: Any, part: Float[np.ndarray, "image output"]) -> None:
    """Copies a request's logits into the part of the result that it computed."""
    part[:] = request.get_output_tensor(0).data


class _Logits(nn.Module):
    """A run's network with the preparation of its pixels."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, predictor: Predictor) -> None:
        super().__init__()
        self.network = predictor.network
        for name, values in (("mean", predictor.preprocessing.mean), ("deviation", predictor.preprocessing.std)):
            self.register_buffer(name, torch.tensor(values).reshape(1, 3, 1, 1))

    def forward(self, images: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch output"]:
        values = images.permute(0, 3, 1, 2).to(torch.float32) / 255
        return self.network.run((values - self.mean) / self.deviation, 0, None)
