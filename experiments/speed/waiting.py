"""How fast a small network trains on two threads, by how long they spin while waiting, with idle and with busy cores.

    python -m experiments.speed.waiting [--seconds 6]

Prints a Markdown table: steps per second and processor milliseconds per step of cnn2 at 64 pixels, batch 32, for some values of
``GOMP_SPINCOUNT`` (none is GNU OpenMP's own choice), on the machine as it is and with one process that keeps a core busy.
"""

import argparse
import os
import subprocess
import sys
import time

SPINS = ("", "100", "1000", "10000", "100000")


def main() -> None:
    """Measure each value in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(measured(arguments.seconds))
        return
    print("| GOMP_SPINCOUNT | cores | steps per second | CPU ms per step |\n| --- | --- | --- | --- |", flush=True)
    for cores in ("as they are", "one kept busy"):
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if cores == "one kept busy" else None
        try:
            for spins in SPINS:
                environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
                environment |= {"GOMP_SPINCOUNT": spins} if spins else {}
                command = [
                    sys.executable,
                    "-m",
                    "experiments.speed.waiting",
                    "--measure",
                    "--seconds",
                    str(arguments.seconds),
                ]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                print(f"| {spins or 'not set'} | {cores} | {done.stdout.strip()} |", flush=True)
        finally:
            if busy:
                busy.kill()


def measured(seconds: float) -> str:
    """Steps per second, and processor milliseconds per step."""
    import torch

    from raylight.config.schema import ModelConfig
    from raylight.models.build import build_network

    torch.set_num_threads(2)
    model = ModelConfig(channels=[32, 64], padding="valid", dense=[128], image_size=64)
    network = build_network(model, 2).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(network.parameters())
    images = torch.rand(32, 3, 64, 64).to(memory_format=torch.channels_last)
    targets = torch.randint(0, 2, (32,))
    steps, began, spent = -5, time.perf_counter(), time.process_time()
    while steps < 0 or time.perf_counter() - began < seconds:
        if steps == 0:
            began, spent = time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), targets).backward()
        optimizer.step()
        steps += 1
    elapsed = time.perf_counter() - began
    return f"{steps / elapsed:.1f} | {1000 * (time.process_time() - spent) / steps:.0f}"


if __name__ == "__main__":
    main()
