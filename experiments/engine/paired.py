"""Our engine and OpenVINO by turns in one process: on a busy machine their ratio is steadier than by ``bench``.

    pip install --target FOLDER openvino
    PYTHONPATH=FOLDER python -m experiments.engine.paired --photos DIR --weights DIR [--threads 2] [--models resnet18]

Each takes the fastest of some rounds over the same photos: images per second, and per CPU second. OpenVINO has a stream per
thread and the better of two batch sizes; networks without a file of weights have random ones.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from experiments.engine.networks import built
from experiments.engine.served import Served

from raylight.cpu.engine import InferenceEngine, Int8
from raylight.data.decode.engines import decode_files

MODELS = "mobilenet_v2,resnet18,efficientnet_b0,mobilenet_v3_large,squeezenet1_1,resnet50"

CALIBRATION = 64
"""Photos from which int8 takes the ranges of activations; none of them is measured."""

ROUNDS = 8


def main() -> None:
    """Print a row per network."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder of MODEL.pt")
    parser.add_argument("--models", default=MODELS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--images", type=int, default=64)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for model in arguments.models.split(","):
        print(f"| {model} | {' | '.join(row(model, arguments))} |", flush=True)


def row(model: str, arguments: argparse.Namespace) -> list[str]:
    """Images per second and per CPU second of OpenVINO and of ours, and ratios of CPU seconds."""
    network, preprocessing = built(model, arguments.weights)
    network.eval()
    found = sorted(arguments.photos.rglob("*.jpg"))
    paths = [found[i] for i in np.random.default_rng(0).permutation(len(found))[: arguments.images + CALIBRATION]]
    decoded = np.concatenate([block.pixels for block in decode_files(paths, preprocessing.decode_spec)])
    pixels, calibration = decoded[: arguments.images], decoded[arguments.images :]
    runs = openvino_runs(Served(network, preprocessing).eval(), pixels, arguments.threads)
    int8 = Int8.measured_on(network, preprocessing, calibration)
    for name, precision in {"ours": "bf16", **({"int8": int8} if int8.ranges else {})}.items():
        engine = InferenceEngine(network, 0, None, preprocessing, precision=precision, threads=arguments.threads)
        runs[name] = lambda engine=engine: engine(pixels)
    wall, cpu = fastest(runs)
    rival = min((name for name in runs if name.startswith("openvino")), key=cpu.__getitem__)
    speeds = [
        f"{len(pixels) / wall[name]:.0f}, {len(pixels) / cpu[name]:.0f}" if name in runs else ""
        for name in (rival, "ours", "int8")
    ]
    faster = f"{cpu['ours'] / cpu['int8']:.2f}" if int8.ranges else ""
    return [*speeds, f"{cpu['ours'] / cpu[rival]:.2f}", f"{wall['ours'] / wall[rival]:.2f}", faster]


def openvino_runs(served: Served, pixels: np.ndarray, threads: int) -> dict[str, Callable[[], Any]]:
    """OpenVINO in bf16 with batches of 4 and of 16."""
    import openvino as ov
    import openvino.properties as properties
    import openvino.properties.hint as hints

    model = ov.convert_model(served, example_input=torch.zeros(2, *pixels.shape[1:], dtype=torch.uint8))
    runs: dict[str, Callable[[], Any]] = {}
    for batch in (4, 16):
        shaped = model.clone()
        shaped.reshape([batch, *pixels.shape[1:]])
        settings = {
            hints.inference_precision: ov.Type.bf16,
            properties.inference_num_threads: threads,
            properties.num_streams: threads,
        }
        queue = ov.AsyncInferQueue(ov.Core().compile_model(shaped, "CPU", settings), threads)

        def run(queue: Any = queue, batch: int = batch) -> None:
            for begin in range(0, len(pixels), batch):
                queue.start_async([pixels[begin : begin + batch]], share_inputs=True)
            queue.wait_all()

        runs[f"openvino {batch}"] = run
    return runs


def fastest(runs: dict[str, Callable[[], Any]]) -> tuple[dict[str, float], dict[str, float]]:
    """Wall and CPU seconds of each one's fastest round, after one that doesn't count."""
    wall, cpu = dict.fromkeys(runs, np.inf), dict.fromkeys(runs, np.inf)
    for number in range(ROUNDS + 1):
        for name, run in runs.items():
            begin, used = time.perf_counter(), time.process_time()
            run()
            if number:
                wall[name] = min(wall[name], time.perf_counter() - begin)
                cpu[name] = min(cpu[name], time.process_time() - used)
    return wall, cpu


if __name__ == "__main__":
    main()
