"""``make bench``: what Raylight takes against what people write, as ratios in one run; a table at the end.

    python -m experiments.speed.bench --photos DIR --films DIR --weights DIR [--only decode,epochs,command,sweep,growth]

Peers run as their documentation tells; ``plain_loop.py`` is the loop that people write. Every row does the same work on the
same files. Ratios above 1 mean that ours took less.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.side_by_side import Row, Table, timed

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Bench:
    """Where things are."""

    folder: Path
    photos: Path
    films: Path
    weights: Path
    seeds: tuple[int, ...]

    def decode(self) -> Iterator[Row]:
        """Decode and resize to 224 pixels, one core."""
        for what, root, wanted in (("photos", self.photos, "2"), ("films", self.films, "3")):
            found = output(["-m", "experiments.speed.decoding", str(root), "--images", "1000"])
            ours = f"{found['ours']:.0f} images/s"
            yield Row(
                f"decode + resize {found['images']:.0f} {what}, one core",
                ours,
                f"Pillow as ImageFolder uses it {found['pillow']:.0f}",
                found["ours"] / found["pillow"],
                wanted,
            )
            yield Row(
                f"the same {what} against the limit",
                ours,
                f"libjpeg-turbo alone, nothing resized {found['libjpeg_turbo_alone']:.0f}",
                found["ours"] / found["libjpeg_turbo_alone"],
                "0.8",
            )
            yield Row(
                f"the same {what} through Ray, all cores, warm",
                f"{found['ours_through_ray']:.0f} images/s",
                f"ray.data.read_images {found['ray_read_images']:.0f}",
                found["ours_through_ray"] / found["ray_read_images"],
                "2" if what == "photos" else "3",
            )

    def epochs(self) -> Iterator[Row]:
        """An epoch with its validation, mirrored at random, the best of each.

        Of 400 photos a tenth is for validation and a tenth for test; cnn2, whose epoch of those would last a moment, gets all.
        """
        models = {
            "cnn2": ("2.3", "null", []),
            "cnn5": ("2.3", "200", []),
            "resnet18": ("2.3", "200", ["finetune=full"]),
            "mobilenet_v2": ("3", "200", ["finetune=full"]),
        }
        for model, (wanted, limit, extra) in models.items():
            weights = [f"model.weights={self.weights / model}.pt"] if extra else []
            some = ["data=catsdogs", f"data.root={self.photos}", f"data.limit={limit}"]
            what = [*some, f"model={model}", *extra, *weights]
            how = ["augment=flip", "trainer.max_epochs=2", "decode=threads", "data.split_seed=1"]
            runs = [self.train(f"{model}-{seed}", *what, *how, f"seed={seed}")[1] for seed in self.seeds]
            plain = [output([str(HERE / "plain_loop.py"), "--run", str(run), "--epochs", "2"]) for run in runs]
            repeat = ["--run", str(runs[0]), "--epochs", "2"]
            lightning = output([str(HERE / "plain_loop.py"), *repeat, "--lightning"])
            memory = output([str(HERE / "in_memory.py"), *repeat])
            ours, by_hand = min(map(fastest_epoch, runs)), min(map(fastest_peer_epoch, plain))
            results = [json.loads((run / "metrics.json").read_text())["test/accuracy"] for run in runs]
            n = sum(result["n"] for result in results)
            right = round(sum(result["value"] * result["n"] for result in results))
            theirs = round(sum(peer["test_accuracy"] for peer in plain) * n / len(plain))
            name, told = f"epoch of {model}", f"{ours:.2f} s, test accuracy {with_interval(right, n)}"
            loop = f"plain loop, two workers {by_hand:.2f} s, {with_interval(theirs, n)}"
            yield Row(name, told, loop, by_hand / ours, wanted)
            default = fastest_peer_epoch(lightning)
            yield Row(name, f"{ours:.2f} s", f"Lightning's defaults {default:.2f} s", default / ours, wanted)
            limit = min(memory["epoch_seconds"])
            yield Row(name, f"{ours:.2f} s", f"tensors in memory {limit:.2f} s", limit / ours, "0.95")

    def command(self) -> Iterator[Row]:
        """The X-ray fine-tuning, from Enter to the result."""
        seconds, run = self.train(
            "xray",
            "experiment=xray_resnet18",
            f"data.root={self.films}",
            f"model.weights={self.weights / 'resnet18'}.pt",
            f"cache_dir={self.folder / 'cold'}",
        )
        accuracy = json.loads((run / "metrics.json").read_text())["test/accuracy"]["value"]
        plain = output([str(HERE / "plain_loop.py"), "--run", str(run)])
        yield Row(
            "ten epochs of X-ray ResNet18, cold, start-up and Ray included",
            f"{seconds:.0f} s, test accuracy {accuracy:.3f}",
            f"plain loop {plain['seconds']:.0f} s, {plain['test_accuracy']:.3f}",
            plain["seconds"] / seconds,
            "2.5",
        )

    def sweep(self) -> Iterator[Row]:
        """Six short jobs on the demo data."""
        short = ["trainer.max_epochs=3", "decode=threads", f"cache_dir={self.folder / 'cache'}", "logger=csv"]
        command = [sys.executable, str(ROOT / "train.py")]
        seeds = ["1", "2", "3", "4", "5", "6"]
        timed([*command, *short, f"hydra.run.dir={self.folder}/first"])
        together = timed([*command, "-m", *short, f"seed={','.join(seeds)}", f"hydra.sweep.dir={self.folder}/sweep"])
        apart = sum(timed([*command, *short, f"seed={seed}", f"hydra.run.dir={self.folder}/{seed}"]) for seed in seeds)
        yield Row("sweep of 6 short jobs", f"{together:.0f} s", f"6 processes {apart:.0f} s", apart / together, "2")

    def growth(self) -> Iterator[Row]:
        """Decode, cache and one epoch on one, four and sixteen times 500 photos."""
        some = self.folder / "some"
        some.mkdir()
        photos = sorted(self.photos.rglob("*.jpg"))
        for photo in photos[:: max(1, len(photos) // 500)]:
            (some / photo.name).symlink_to(photo)
        measure = [str(ROOT / "experiments" / "memory" / "measure.py"), "--photos", str(some), "--json", "--whole"]

        def measured(*arguments: str) -> list[dict[str, float]]:
            command = [sys.executable, *measure, *arguments]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]

        found = measured("--times", "1,4,16", "--fixed")
        first, _, last = found
        factor = last["images"] / first["images"]
        yield Row(
            f"seconds an image, {first['images']:,} to {last['images']:,} images",
            f"{1e3 * (last['seconds'] - found[1]['seconds']) / (last['images'] - found[1]['images']):.2f} ms from 4x to 16x",
            f"{1e3 * (found[1]['seconds'] - first['seconds']) / (found[1]['images'] - first['images']):.2f} ms from 1x to 4x",
            (last["seconds"] - found[1]["seconds"]) / (found[1]["seconds"] - first["seconds"]) / 4,
            "0.9 to 1.1",
        )
        (timed_first,) = measured("--times", "16")
        for what, peak in (("", last), (", settings timed first (some steps in fp32)", timed_first)):
            yield Row(
                f"peak RssAnon at {factor:g} times the images{what}",
                f"{peak['peak_gb']:.2f} GB",
                f"{first['peak_gb']:.2f} GB",
                peak["peak_gb"] / first["peak_gb"],
                "at most 1.1",
            )

    def train(self, name: str, *overrides: str) -> tuple[float, Path]:
        """Run train.py; seconds and its folder."""
        run = self.folder / name
        caches = (
            [] if any(text.startswith("cache_dir=") for text in overrides) else [f"cache_dir={self.folder / 'cache'}"]
        )
        command = [sys.executable, str(ROOT / "train.py"), *overrides, *caches, f"hydra.run.dir={run}", "logger=csv"]
        return timed(command), run


def fastest_epoch(run: Path) -> float:
    """Seconds of a run's fastest epoch."""
    with (run / "history.csv").open() as file:
        return min(float(row["seconds"]) for row in csv.DictReader(file))


def fastest_peer_epoch(peer: dict[str, Any]) -> float:
    """The same of what ``plain_loop.py`` printed."""
    return min(sum(epoch.values()) for epoch in peer["epoch_seconds"])


def with_interval(right: int, n: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    from raylight.evaluation.intervals import wilson

    low, high = wilson(right, n)
    return f"{right / n:.3f} ({low:.3f} to {high:.3f}, n = {n})"


def output(arguments: list[str]) -> dict[str, Any]:
    """What a script of this folder printed as its last line."""
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(arguments)}\n{done.stdout}{done.stderr}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Run the sections and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True, help="cats and dogs")
    parser.add_argument("--films", type=Path, required=True, help="the X-ray set")
    parser.add_argument("--weights", type=Path, required=True, help="folder with resnet18.pt and mobilenet_v2.pt")
    parser.add_argument("--only", default="decode,epochs,command,sweep,growth", help="sections, comma-separated")
    parser.add_argument("--seeds", default="1,2,3", help="of the epochs' accuracies, comma-separated")
    parser.add_argument("--out", type=Path, help="write the table here too")
    arguments = parser.parse_args()
    table = Table()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(
            Path(folder),
            *(path.resolve() for path in (arguments.photos, arguments.films, arguments.weights)),
            tuple(int(seed) for seed in arguments.seeds.split(",")),
        )
        for section in arguments.only.split(","):
            for row in getattr(bench, section)():
                table.add(row)
    table.write(arguments.out)


if __name__ == "__main__":
    main()
