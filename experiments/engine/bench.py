"""The inference engine against its rivals, on the same photos in one run.

    python -m experiments.engine.bench --photos DIR --weights DIR [--models resnet18,mobilenet_v2] [--out results.md]

Each engine has a process (and where it isn't the project's own, an environment under ``--cache``). All processes are started
first, each tries some batch sizes and keeps the fastest; then they take turns for some rounds over the same decoded photos.
"""

import argparse
import json
import os
import statistics
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from experiments.engine.environments import python_of, version_of
from experiments.engine.networks import built
from experiments.engine.served import Served

from raylight.data.decode.engines import decode_files
from raylight.runs.environment import processor_name

ROOT = Path(__file__).resolve().parents[2]

ENGINES = (
    "raylight fp32",
    "openvino fp32",
    "onnxruntime fp32",
    "raylight bf16",
    "openvino bf16",
    "torch.compile bf16",
    "raylight int8",
    "openvino int8",
    "onnxruntime int8",
    "torchao int8",
)

CALIBRATION = 128
"""Photos from which int8 takes the ranges of activations."""


@dataclass
class Contender:
    """An engine's process, and what was measured of it.

    Attributes:
        name: engine and precision.
        process: takes a line, replies with a line.
        batch: images per call.
        wall: seconds per round.
        cpu: CPU seconds per round.
    """

    name: str
    process: "subprocess.Popen[str]"
    batch: int = 0
    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def reply(self) -> dict[str, float]:
        """The process's next line; it must be alive."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} ended with {self.process.wait()}")
        return dict(json.loads(line))

    def measure(self) -> None:
        """One pass over all photos."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        found = self.reply()
        self.wall.append(found["wall"])
        self.cpu.append(found["cpu"])


def main() -> None:
    """Measure each network with one thread and with two."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder of MODEL.pt; models without one are random")
    parser.add_argument("--models", default="mobilenet_v2,resnet18")
    parser.add_argument("--engines", default=",".join(ENGINES), help="comma-separated: " + ", ".join(ENGINES))
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--batches", default="4,16")
    parser.add_argument("--images", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "raylight-bench"
    parser.add_argument("--cache", type=Path, default=cache, help="where environments are kept")
    parser.add_argument("--out", type=Path, help="write the tables here too")
    arguments = parser.parse_args()
    engines = arguments.engines.split(",")
    pythons = {engine: python_of(engine.split()[0], arguments.cache) for engine in engines}
    versions = {engine.split()[0]: version_of(engine.split()[0], python) for engine, python in pythons.items()}
    lines = [f"{processor_name()}, {os.cpu_count()} cores; {arguments.images} photos, {arguments.rounds} rounds"]
    lines.append("; ".join(f"{name} {version}" for name, version in versions.items()))
    print("\n".join(lines), flush=True)
    for model in arguments.models.split(","):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            reference = prepare(folder, model, arguments)
            for threads in map(int, arguments.threads.split(",")):
                measured = compete(folder, pythons, threads, arguments)
                heading = f"\n{model}, {threads} thread{'s' if threads > 1 else ''}\n"
                table = [heading, *rows(folder, threads, measured, reference)]
                print("\n".join(table), flush=True)
                lines += table
                if arguments.out:
                    arguments.out.write_text("\n".join(lines) + "\n")


def prepare(folder: Path, model: str, arguments: argparse.Namespace) -> np.ndarray:
    """Write the network, as a torch module and as ONNX, and the pixels; return its probabilities in fp32."""
    network, preprocessing = built(model, arguments.weights)
    served = Served(network, preprocessing).eval().requires_grad_(False)
    torch.save(served, folder / "served.pt")
    example, batch = torch.zeros(2, 224, 224, 3, dtype=torch.uint8), torch.export.Dim("batch")
    program = torch.export.export(served, (example,), dynamic_shapes={"images": {0: batch}})
    exported = torch.onnx.export(
        program, input_names=["images"], output_names=["probabilities"], dynamo=True, verbose=False
    )
    exported.save(folder / "served.onnx")
    paths = sorted(arguments.photos.rglob("*.jpg"))
    order = np.random.default_rng(0).permutation(len(paths))[: arguments.images + CALIBRATION + 16]
    blocks = decode_files([paths[i] for i in order], preprocessing.decode_spec)
    pixels = np.concatenate([block.pixels for block in blocks])
    np.save(folder / "pixels.npy", pixels[: arguments.images])
    np.save(folder / "calibration.npy", pixels[arguments.images :][:CALIBRATION])
    with torch.inference_mode():
        return torch.cat([served(torch.from_numpy(part)) for part in np.split(pixels[: arguments.images], 8)]).numpy()


def compete(folder: Path, pythons: dict[str, Path], threads: int, arguments: argparse.Namespace) -> list[Contender]:
    """Start each engine, then let them take turns."""
    contenders = []
    for engine, python in pythons.items():
        backend, precision = engine.split()
        command = [
            python,
            "-m",
            "experiments.engine.worker",
            folder,
            backend,
            precision,
            str(threads),
            arguments.batches,
        ]
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / f"{engine}.log").open("w"),
            text=True,
        )
        contender = Contender(engine, process)
        try:
            contender.batch = int(contender.reply()["batch"])
        except SystemExit as error:
            print(f"{error}: {(folder / f'{engine}.log').read_text()[-2000:]}", flush=True)
            continue
        contenders.append(contender)
    for _ in range(arguments.rounds):
        for contender in contenders:
            contender.measure()
    for contender in contenders:
        assert contender.process.stdin is not None
        contender.process.stdin.close()
        contender.process.wait()
    return contenders


def rows(folder: Path, threads: int, contenders: list[Contender], reference: np.ndarray) -> list[str]:
    """The table of one network: medians over rounds, and how far the probabilities are from fp32."""
    n = len(reference)
    lines = ["| engine | batch | images/s | range | images per CPU s | largest difference | same class |"]
    lines.append("| --- | ---: | ---: | --- | ---: | ---: | ---: |")
    for each in contenders:
        found = np.load(folder / f"{each.name.replace(' ', '-')}-{threads}.npy")
        same = (found.argmax(1) == reference.argmax(1)).mean()
        rate, cpu = n / statistics.median(each.wall), n / statistics.median(each.cpu)
        span = f"{n / max(each.wall):.0f} to {n / min(each.wall):.0f}"
        difference = np.abs(found - reference).max()
        lines.append(
            f"| {each.name} | {each.batch} | {rate:.0f} | {span} | {cpu:.0f} | {difference:.4f} | {same:.3f} |"
        )
    return lines


if __name__ == "__main__":
    main()
