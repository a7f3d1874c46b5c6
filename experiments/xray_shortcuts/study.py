"""How much of the X-ray result is about lungs? As published, counted by patient, cross-validated, and with lungs hidden.

    python experiments/xray_shortcuts/study.py --films DIR [--weights FILE] [--epochs N] [--out DIR]

Every run is ``python train.py experiment=xray_resnet18 scheduler=step`` (the falling rate that the same project's CNN had)
with what differs: a fold, or a folder of the same films with their middle (or all but their border) black. Finished runs
are kept. Writes ``results.md`` beside this file.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from raylight.auditing.shortcuts import BORDER, CENTRE
from raylight.comparison.study import study_of
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.evaluation.intervals import wilson

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
SIDE = 256
FOLDS = 5


def main() -> None:
    """Run what is missing, then write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=Path, required=True, help="the X-ray set, with train/ and test/")
    parser.add_argument("--weights", default="DEFAULT", help="resnet18.pt; default: torchvision's")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "xray_shortcuts", help="folder of the runs")
    arguments = parser.parse_args()
    out = arguments.out.resolve()

    def train(name: str, films: Path, *settings: str) -> Path:
        run = out / name
        if not (run / "metrics.json").is_file():
            command = [
                sys.executable,
                str(ROOT / "train.py"),
                "experiment=xray_resnet18",
                "scheduler=step",
                f"data.root={films}",
                f"model.weights={arguments.weights}",
                f"trainer.max_epochs={arguments.epochs}",
                "decode=threads",
                "logger=csv",
                f"hydra.run.dir={run}",
                *settings,
            ]
            going_on = [sys.executable, str(ROOT / "train.py"), f"run={run}"]  # one that was stopped
            subprocess.run(going_on if (run / "config.yaml").is_file() else command, check=True)
        return run

    films = arguments.films.resolve()
    published = train("published", films, "report.shortcuts=true")
    folds = [train(f"fold{k}", films, f"data.folds={FOLDS}", f"data.fold={k}") for k in range(FOLDS)]
    # Hidden copies, all 256 x 256 PNG: neither size nor format can tell the classes apart any more.
    # With the same part black in all, films look alike to the search for republished pictures: it is switched off.
    hidden = {
        name: train(name, hide(films, out / "films" / name, name), "data.group_duplicates=false")
        for name in ("whole", "centre_black", "border_only")
    }
    command = "from raylight.cli import main; main()"
    audit = [sys.executable, "-c", command, "audit", "data=xray", f"data.root={films}", "--out", str(out / "audit")]
    subprocess.run(audit, cwd=ROOT, check=False)  # exits with 1, as it finds something
    table = write_table(published, folds, hidden, out / "audit" / "audit.json")
    (HERE / "results.md").write_text(table)
    print(table)


def hide(films: Path, target: Path, what: str) -> Path:
    """Copies of all films, a part of each black; the names stay, and with them the patients."""
    for path in sorted(films.glob("*/*/*")):
        place = target / path.relative_to(films).with_suffix(".png")
        if place.is_file():
            continue
        pixels = decode_image(path.read_bytes(), DecodeSpec(SIDE, "stretch"))
        margin = round(SIDE * ((1 - CENTRE) / 2 if what == "centre_black" else BORDER))
        if what != "whole":
            pixels[margin : SIDE - margin, margin : SIDE - margin] = 0
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels[..., 0])).save(place)
    return target


def write_table(published: Path, folds: list[Path], hidden: dict[str, Path], audit: Path) -> str:
    """The table in Markdown."""
    metrics, shortcuts = (json.loads((published / f"{name}.json").read_text()) for name in ("metrics", "shortcuts"))
    guess = json.loads(audit.read_text())["give_away"]
    accuracy = metrics["test/accuracy"]
    right = round(accuracy["value"] * accuracy["n"])
    naive = wilson(right, accuracy["n"])
    (pooled,) = study_of(folds).replicates
    whole = pooled.estimates["accuracy"]
    rows: list[tuple[str, float, float, float, int]] = [
        ("as published: shipped test films, each counted as a patient", accuracy["value"], *naive, accuracy["n"]),
        ("the same, patients counted once", *_cell(accuracy)),
        (
            f"{FOLDS}-fold cross-validation of the training films, patients kept together and counted once",
            whole.value,
            whole.low,
            whole.high,
            whole.n,
        ),
        *((f"the published network, shown: {check['title']}", *_cell(check)) for check in shortcuts["checks"][:-1]),
    ]
    labels = {
        "whole": "trained anew on copies of equal size and format",
        "centre_black": f"trained anew on those, the middle {CENTRE * 100:.0f} % of height and width black",
        "border_only": f"trained anew on those, only the outermost {BORDER * 100:.0f} % on each side left",
    }
    for name, run in hidden.items():
        rows.append((labels[name], *_cell(json.loads((run / "metrics.json").read_text())["test/accuracy"])))
    rows.append(
        (
            "no network: size, format, bytes and brightness of the file alone",
            *_cell(guess["together"] | {"value": guess["together"]["accuracy"], "n": guess["n"]}),
        )
    )
    lines = ["| what was asked | accuracy | 95 % interval | films |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {name} | {100 * v:.1f} % | {100 * low:.1f} to {100 * high:.1f} % | {n} |" for name, v, low, high, n in rows
    ]
    heat = shortcuts["checks"][-1]
    lines += ["", f"Chance is 50 %. {heat['sentence']}"]
    return "\n".join(lines) + "\n"


def _cell(values: dict[str, Any]) -> tuple[float, float, float, int]:
    return values["value"], values["low"], values["high"], values["n"]


if __name__ == "__main__":
    main()
