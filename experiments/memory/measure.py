"""Peak anonymous memory of the training process, and whether it grows with the number of images.

    python experiments/memory/measure.py --photos DIR [--times 1,10] [--model cnn4] [--batches 40 | --whole] [--fixed] [--json]

Makes copies of the photos whose contents differ in a trailing byte or two (else the cache would keep one image for all
of them), trains one epoch on each size, and samples RssAnon of the training process (not of Ray's workers) ten times a
second. Pages of the mapped cache belong to the system and aren't counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from raylight.cpu.engine import bf16_supported

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    """Measure each size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="folder of JPEG files named cat.N.jpg and dog.N.jpg")
    parser.add_argument("--times", default="1,10", help="how often each photo is taken, comma-separated")
    parser.add_argument("--model", default="cnn4", help="a model with 224 pixel input")
    parser.add_argument("--batches", type=int, default=40, help="training batches of the one epoch")
    parser.add_argument("--whole", action="store_true", help="all batches of the epoch")
    parser.add_argument(
        "--fixed",
        action="store_true",
        help="don't time settings: from a length on, runs take some steps in fp32 first, which need more memory than their own",
    )
    parser.add_argument("--json", action="store_true", help="a line of JSON a size instead of a table")
    arguments = parser.parse_args()
    batches = "null" if arguments.whole else str(arguments.batches)
    if not arguments.json:
        print("| images | peak RssAnon of the training process | seconds |\n| --- | --- | --- |")
    for times in map(int, arguments.times.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            count = copy_photos(arguments.photos, Path(folder) / "photos", times)
            peak, seconds = train(Path(folder), arguments.model, batches, arguments.fixed)
        if arguments.json:
            print(json.dumps({"images": count, "peak_gb": peak / 1e9, "seconds": seconds}), flush=True)
        else:
            print(f"| {count:,} | {peak / 1e9:.2f} GB | {seconds:.0f} |", flush=True)


def copy_photos(source: Path, target: Path, times: int) -> int:
    """Write each photo so many times; bytes after a JPEG's end marker change its hash, not its picture."""
    target.mkdir()
    photos = sorted(source.rglob("*.jpg"))
    for number, photo in enumerate(photos):
        label = photo.name.split(".")[0]
        content = photo.read_bytes()
        for turn in range(times):
            (target / f"{label}.{number * times + turn}.jpg").write_bytes(content + bytes([turn]))
    return len(photos) * times


def train(folder: Path, model: str, batches: str, is_fixed: bool) -> tuple[float, float]:
    """Train one epoch; the highest RssAnon in bytes, and the seconds it took."""
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        "data=catsdogs",
        f"data.root={folder}/photos",
        "data.group_duplicates=false",
        f"cache_dir={folder}/cache",
        f"hydra.run.dir={folder}/run",
        f"model={model}",
        "trainer.max_epochs=1",
        f"trainer.limit_batches={batches}",
        "logger=csv",
    ]
    if is_fixed:
        precision = "bf16" if bf16_supported() else "32"
        command += [f"trainer.precision={precision}", "trainer.channels_last=true"]
    begin, peak = time.monotonic(), 0
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        peak = max(peak, anonymous_bytes(process.pid))
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"training failed with exit code {process.returncode}; see the messages above")
    return peak, time.monotonic() - begin


def anonymous_bytes(pid: int) -> int:
    """RssAnon of a process; 0 when it has just ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon")), 0)


if __name__ == "__main__":
    main()
