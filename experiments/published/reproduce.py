"""Runs every published system here and writes one table: theirs, ours, with intervals.

    python experiments/published/reproduce.py --photos DIR --films DIR [--weights DIR] [--seeds 1,2,3] [--only NAME,...]

Each run is ``python train.py experiment=NAME``, nothing else; finished runs are kept and not run again. Rows of systems of
which there is no run here stay in the table as they are. It says how many images it stands on: numbers on a part of a data
set aren't those of the whole.
"""

import argparse
import json
import math
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Published:
    """What a project says of its own result."""

    data: str
    theirs: str
    weights: str | None = None


SYSTEMS = {
    "spark_cnn2": Published("photos", "test accuracy ~0.78, AUC ~0.88"),
    "keras_cnn3": Published("photos", "val accuracy 0.810, loss 0.832"),
    "keras_mobilenet_v2": Published("photos", "val accuracy 0.963, loss 0.143", "mobilenet_v2"),
    "transfer_cnn3": Published("photos", "0.798"),
    "transfer_cnn4": Published("photos", "0.862"),
    "transfer_mobilenet_frozen": Published("photos", "0.985", "mobilenet_v2"),
    "transfer_mobilenet_finetuned": Published("photos", "0.985", "mobilenet_v2"),
    "catsdogs_resnet18": Published("photos", "accuracy and loss, not given", "resnet18"),
    "catsdogs_best": Published("photos", "(beyond them)", "mobilenet_v2"),
    "xray_cnn5": Published("films", "0.750, recall 0.900, F1 0.783"),
    "xray_resnet18": Published("films", "0.925, recall 0.900, F1 0.923", "resnet18"),
    "xray_best": Published("films", "(beyond them)", "mobilenet_v2"),
}


def main() -> None:
    """Run what is missing, then write ``results.md``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, help="cats and dogs; without it those systems are left out")
    parser.add_argument("--films", type=Path, help="the X-ray set; without it those systems are left out")
    parser.add_argument(
        "--weights", type=Path, help="folder with resnet18.pt and mobilenet_v2.pt; default: torchvision's"
    )
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated")
    parser.add_argument("--only", default="", help="comma-separated names of experiments")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "published", help="folder of the runs")
    arguments = parser.parse_args()
    roots = {"photos": arguments.photos, "films": arguments.films}
    names = [name for name in SYSTEMS if not arguments.only or name in arguments.only.split(",")]
    failed = []
    for name in names:
        system = SYSTEMS[name]
        if roots[system.data] is None or not (ROOT / "conf" / "experiment" / f"{name}.yaml").is_file():
            continue
        for seed in arguments.seeds.split(","):
            folder = arguments.out / name / f"seed{seed}"
            if not (folder / "metrics.json").is_file() and run(name, system, seed, folder, roots, arguments.weights):
                failed.append(f"{name} seed {seed}")
    results = HERE / "results.md"
    table = write_table(arguments.out, results.read_text() if results.is_file() else "")
    results.write_text(table)
    print(table)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def run(
    name: str, system: Published, seed: str, folder: Path, roots: dict[str, Path | None], weights: Path | None
) -> int:
    """One run; its exit code."""
    command = [
        sys.executable,
        str(ROOT / "train.py"),
        f"experiment={name}",
        f"seed={seed}",
        "data.split_seed=null",  # each seed splits anew: the spread in the table is that of splits, too
        f"data.root={roots[system.data]}",
        f"hydra.run.dir={folder}",
        "logger=csv",
    ]
    if weights is not None and system.weights is not None:
        command.append(f"model.weights={weights / system.weights}.pt")
    if (folder / "config.yaml").is_file():  # a run that was stopped goes on
        command = [sys.executable, str(ROOT / "train.py"), f"run={folder}"]
    print(f"{name}, seed {seed}", flush=True)
    return subprocess.run(command, check=False).returncode


def write_table(out: Path, before: str) -> str:
    """The table of all finished runs below a folder, and of what stood in the table before and has no run there."""
    rows = {line.split("`")[1]: line for line in before.splitlines() if line.startswith("| `")}
    counts = re.search(r"([\d,]+) photos and (\d+) films", before)
    images = (
        dict(zip(("photos", "films"), (int(n.replace(",", "")) for n in counts.groups()), strict=True))
        if counts
        else {}
    )
    lines = [
        "| experiment | theirs | ours: test accuracy (mean ± spread over seeds) | 95 % interval of the first seed | n "
        "| recall | F1 | AUROC | val accuracy | parameters | epochs | seconds of the fastest run |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, system in SYSTEMS.items():
        folders = [path.parent for path in sorted((out / name).glob("seed*/metrics.json"))]
        if not folders:
            lines += [rows[name]] if name in rows else []
            continue
        runs = [json.loads((folder / "metrics.json").read_text()) for folder in folders]
        images[system.data] = max(images.get(system.data, 0), int(runs[0]["cost"]["images"]))
        first = runs[0]["test/accuracy"]
        seconds = [json.loads((folder / "status.json").read_text())["seconds"] for folder in folders]
        cells = [
            f"`{name}`",
            system.theirs,
            spread([r["test/accuracy"]["value"] for r in runs]) + f" ({len(runs)} seed{'s' * (len(runs) > 1)})",
            f"{first['low']:.3f} to {first['high']:.3f}",
            str(first["n"]),
            *(spread([r[f"test/{metric}"]["value"] for r in runs]) for metric in ("recall", "f1", "auroc")),
            spread([r["val/accuracy"]["value"] for r in runs]),
            f"{parameters(folders[0]) / 1e6:.2f} M",
            str(runs[0]["provenance"]["epochs_trained"]),
            f"{min(seconds):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    heading = (
        f"# Published systems, repeated on {images.get('photos', 0):,} photos and {images.get('films', 0)} films\n\n"
        "Theirs stood on 25,000 photos (and the same films); numbers on a part of a data set are not those of the "
        "whole. Ours: the test split, looked at once by the checkpoint that validation chose.\n\n"
    )
    return heading + "\n".join(lines) + "\n"


def spread(values: list[float]) -> str:
    """Mean and standard deviation over seeds."""
    mean = sum(values) / len(values)
    if len(values) == 1:
        return f"{mean:.3f}"
    deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return f"{mean:.3f} ± {deviation:.3f}"


def parameters(folder: Path) -> int:
    """Numbers that a run's model learned or took over, BatchNorm's statistics left aside."""
    from safetensors import safe_open

    with safe_open(folder / "model.safetensors", "pt") as weights:
        names = [name for name in weights.keys() if "running_" not in name and "num_batches" not in name]  # noqa: SIM118
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in names)


if __name__ == "__main__":
    main()
