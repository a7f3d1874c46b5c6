"""Is what is trained when nothing is typed as good as the best of ten recipes that people write?

    python -m experiments.recipes.study --photos DIR --films DIR --weights DIR [--sets films,digits] [--models cnn2]

Each set, model and recipe is trained with each seed, a sweep of ``train.py``; finished sweeps are kept. Per set and model the
recipe with the best validation accuracy (mean over seeds, ties by Brier score) is chosen from all but the default, and both are
reported on test. ``results.csv`` keeps every sweep, those of former calls and other machines too; ``results.md`` compares them.
"""

import argparse
import csv
import json
import shlex
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from statistics import fmean

from experiments.recipes.sets import all_sets

ROOT = Path(__file__).resolve().parents[2]
RESULTS = Path(__file__).resolve().with_name("results.csv")
DEFAULT = "default"

PRETRAINED = {
    DEFAULT: "",
    "head alone, solved": "finetune=probe",
    "head, 10 epochs": "finetune=frozen",
    "head, 30 epochs, cosine": "finetune=frozen scheduler=cosine trainer.max_epochs=30",
    "head 5 epochs, last blocks 5 at 1e-5": "finetune=two_phase augment=none",
    "last blocks at 1e-4, 10 epochs": "finetune=last_blocks optimizer.lr=1e-4 augment=none",
    "last blocks at 1e-3, cosine, 10 epochs": "finetune=last_blocks scheduler=cosine augment=none",
    "all at 1e-4, 10 epochs": "finetune=full optimizer.lr=1e-4 augment=none trainer.max_epochs=10 scheduler=constant",
    "all at 1e-4, cosine, crop and flip": "finetune=full optimizer.lr=1e-4 augment=crop_flip scheduler=cosine",
    "all at 1e-5, 10 epochs": "finetune=full optimizer.lr=1e-5 augment=none scheduler=constant",
    "all at 1e-3, flip, 10 epochs": "finetune=full augment=flip trainer.max_epochs=10 scheduler=constant",
}
LONG = "optimizer=adamw augment=crop_flip scheduler=warmup_cosine trainer.max_epochs=30"
SMALL = {
    DEFAULT: "",
    "Adam 1e-3, flip, 10 epochs": "augment=flip scheduler=constant trainer.max_epochs=10",
    "Adam 1e-3, 10 epochs": "augment=none scheduler=constant trainer.max_epochs=10",
    "Adam 1e-3, cosine, 30 epochs": "augment=none scheduler=cosine trainer.max_epochs=30",
    "Adam 3e-4, cosine, 30 epochs": "augment=none scheduler=cosine trainer.max_epochs=30 optimizer.lr=3e-4",
    "Adam 1e-3, cosine, flip, 30 epochs": "augment=flip scheduler=cosine trainer.max_epochs=30",
    "AdamW 1e-3, warm-up, cosine, crop and flip, 30 epochs": LONG,
    "the same, BatchNorm": f"{LONG} model.batch_norm=true",
    "the same, BatchNorm, 60 epochs": f"{LONG} model.batch_norm=true trainer.max_epochs=60",
    "SGD 0.01, momentum, cosine, 30 epochs": "optimizer=sgd augment=none scheduler=cosine trainer.max_epochs=30",
    "Adam 1e-3, dropout 0.5, cosine, 30 epochs": "augment=none scheduler=cosine trainer.max_epochs=30 model.dropout=0.5",
}
RECIPES = {"mobilenet_v2": PRETRAINED, "resnet18": PRETRAINED, **{f"cnn{depth}": SMALL for depth in (2, 3, 4, 5)}}


@dataclass(frozen=True)
class Sweep:
    """Means over the seeds of one set, model and recipe; seconds where the machine was used by nothing else."""

    set: str
    model: str
    recipe: str
    seeds: int
    val_accuracy: float
    val_brier: float
    test_accuracy: float
    test_low: float
    test_high: float
    test_images: int
    seconds: float | None


def train(settings: list[str], folder: Path, seeds: str) -> None:
    """One sweep over the seeds, unless it is there; its output goes to ``FOLDER.log``."""
    count = len(seeds.split(","))
    if len(list(folder.glob("*/metrics.json"))) >= count:
        return
    fixed = [
        "trainer.progress=off",
        "logger=csv",
        "report.enabled=false",
        "report.plots=false",
        "decode=threads",
        f"hydra.sweep.dir={folder}",
    ]
    command = [sys.executable, "train.py", "-m", *settings, *fixed, f"seed={seeds}"]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".log").open("w") as log:
        log.write(shlex.join(command) + "\n")
        log.flush()
        subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT, check=False)


def summarised(name: str, model: str, recipe: str, folder: Path) -> Sweep | None:
    """What a sweep came to; None where no job of it is finished."""
    runs = [file.parent for file in folder.glob("*/metrics.json")]
    if not runs:
        return None
    metrics = [json.loads((run / "metrics.json").read_text()) for run in runs]
    seconds = fmean(json.loads((run / "status.json").read_text())["seconds"] for run in runs)

    def mean(metric: str, part: str = "value") -> float:
        return round(fmean(found[metric][part] for found in metrics), 4)

    return Sweep(
        *(name, model, recipe, len(runs), mean("val/accuracy"), mean("val/brier"), mean("test/accuracy")),
        *(
            mean("test/accuracy", "low"),
            mean("test/accuracy", "high"),
            metrics[0]["test/accuracy"]["n"],
            round(seconds, 1),
        ),
    )


def table(sweeps: list[Sweep]) -> str:
    """The default beside the best other recipe by validation, per set and model."""
    groups: dict[tuple[str, str], dict[str, Sweep]] = defaultdict(dict)
    for sweep in sweeps:
        groups[sweep.set, sweep.model][sweep.recipe] = sweep
    lines = [
        "| set | model | test images | default: validation | test (mean 95 % interval) | s | best other by validation "
        "| validation | test | s | points |",
        "| --- " * 11 + "|",
    ]
    for (name, model), recipes in groups.items():
        default = recipes.pop(DEFAULT, None)
        if default is None or not recipes:
            continue
        best = max(recipes.values(), key=lambda sweep: (sweep.val_accuracy, -sweep.val_brier))
        default_s, best_s = ("" if sweep.seconds is None else f"{sweep.seconds:.0f}" for sweep in (default, best))
        interval = f"{default.test_accuracy:.3f} ({default.test_low:.3f} to {default.test_high:.3f})"
        cells = [
            *(name, model, default.test_images, f"{default.val_accuracy:.3f}", interval, default_s),
            *(f"{best.recipe} (of {len(recipes)})", f"{best.val_accuracy:.3f}", f"{best.test_accuracy:.3f}"),
            *(best_s, f"{100 * (default.test_accuracy - best.test_accuracy):+.1f}"),
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def measured_before() -> list[Sweep]:
    """The sweeps of ``results.csv``."""
    with RESULTS.open(newline="") as stream:
        return [
            Sweep(
                *(row["set"], row["model"], row["recipe"], int(row["seeds"])),
                *(float(row[name]) for name in ("val_accuracy", "val_brier", "test_accuracy", "test_low", "test_high")),
                *(int(row["test_images"]), float(row["seconds"]) if row["seconds"] else None),
            )
            for row in csv.DictReader(stream)
        ]


def write_results(sweeps: list[Sweep]) -> None:
    """Both tables."""
    with RESULTS.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Sweep)])
        writer.writeheader()
        writer.writerows(asdict(sweep) for sweep in sweeps)
    RESULTS.with_suffix(".md").write_text(table(sweeps))


def main() -> None:
    """Train what is missing, then write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="cats and dogs")
    parser.add_argument("--films", type=Path, required=True, help="the X-ray set")
    parser.add_argument("--weights", type=Path, required=True, help="folder with resnet18.pt and mobilenet_v2.pt")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "recipes", help="folder of sets and runs")
    parser.add_argument("--seeds", default="1,2,3", help="comma-separated")
    parser.add_argument("--sets", default="", help="comma-separated; all")
    parser.add_argument("--models", default=",".join(RECIPES), help="comma-separated")
    parser.add_argument("--untimed", action="store_true", help="other programs use the machine: record no seconds")
    parser.add_argument("--recipes", default="", help="comma-separated; all")
    arguments = parser.parse_args()
    sweeps = {(sweep.set, sweep.model, sweep.recipe): sweep for sweep in measured_before()}
    for name, reading in all_sets(arguments.photos, arguments.films, arguments.out.resolve() / "sets"):
        for model in arguments.models.split(","):
            small = model.startswith("cnn")
            weights = [] if small else [f"model.weights={arguments.weights / model}.pt"]
            for recipe, settings in RECIPES[model].items():
                folder = arguments.out.resolve() / name / model / recipe.replace(" ", "_").replace(",", "")
                wanted = name in (arguments.sets or name).split(",") and recipe in (arguments.recipes or recipe).split(
                    ";"
                )
                if wanted:
                    plain = ["finetune=scratch"] if small and recipe != DEFAULT else []
                    if plain and model != "cnn5" and "batch_norm" not in settings:
                        plain.append("model.batch_norm=false")
                    train([*reading, f"model={model}", *weights, *plain, *settings.split()], folder, arguments.seeds)
                    if (found := summarised(name, model, recipe, folder)) is not None:
                        if arguments.untimed:
                            found = replace(found, seconds=None)
                        sweeps[name, model, recipe] = found
                        write_results(list(sweeps.values()))
                        print(found, flush=True)


if __name__ == "__main__":
    main()
