"""``make bench-peers``: whole commands of Raylight and of other frameworks, on the same images, in turns.

    python -m experiments.peers.bench --photos DIR --films DIR --weights DIR [--only fastai,...] [--sets films] [--modes equal]

In each turn ours runs first, then each peer, with the turn's seed. Results are added to ``results.csv`` at once, so that the
bench can run in pieces; ``--fresh`` drops what earlier pieces found of the same contenders, sets and modes.
"""

import argparse
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from experiments.environments import version_of
from experiments.peers.contenders import CONTENDERS, OURS, Contender, fill_caches, variables_of
from experiments.peers.cost import cost_of
from experiments.peers.data import lay_out
from experiments.peers.results import Result, forgotten, last_line, read, tables, write
from experiments.peers.task import Task, correct

from raylight.runs.environment import processor_name

HERE = Path(__file__).resolve().parent
NETWORK = "resnet18"
EPOCHS = {"films": 5, "photos": 2}
BATCH_SIZES = {"films": 16, "photos": 32}


@dataclass(frozen=True)
class Bench:
    """What all turns share.

    Attributes:
        cache: folder of environments, images and weights.
        weights: file of the network.
        limit: seconds that a command may take.
    """

    cache: Path
    weights: Path
    limit: float

    def turn(
        self, images: str, mode: str, seed: int, contenders: list[tuple[Contender, Path, str]]
    ) -> Iterator[Result]:
        """Each contender once.

        Args:
            images: name of the set.
            mode: ``default`` or ``equal``.
            seed: the turn's.
            contenders: with their interpreters and versions.

        Yields:
            A result as soon as it is there.
        """
        began = datetime.now(UTC).isoformat(timespec="seconds")
        for contender, python, version in contenders:
            if mode not in contender.modes:
                continue
            log = self.cache / "logs" / f"{images}-{mode}-{contender.name.replace(' ', '_')}.log"
            log.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.cache) as scratch:
                task = Task(
                    data=str(self.cache / images),
                    scratch=scratch,
                    predictions=f"{scratch}/predictions.csv",
                    network=NETWORK,
                    weights=str(self.weights),
                    mode=mode,
                    epochs=EPOCHS[images],
                    batch_size=BATCH_SIZES[images],
                    learning_rate=1e-4,
                    image_size=224,
                    seed=seed,
                    seconds=self.limit,
                )
                file = task.write(Path(scratch) / "task.json")
                command = contender.command(python, images, task, file)
                cost = cost_of(command, variables_of(contender, self.cache), self.limit, log)
                predictions = Path(scratch) / "run" if contender.name == OURS else Path(scratch)
                right, n, note = 0, 0, ""
                if cost.code is None:
                    note = f"not finished after {self.limit:.0f} s: {last_line(log)}"
                elif cost.code:
                    note = f"failed with exit code {cost.code}: {last_line(log)}"
                else:
                    right, n = correct(predictions / "predictions.csv", Path(task.data))
            yield Result(
                images, mode, contender.name, version, began, round(cost.wall, 1), round(cost.cpu, 1), right, n, note
            )


def main() -> None:
    """Prepare images, weights and environments, then take the turns."""
    arguments = parsed()
    cache: Path = arguments.cache
    cache.mkdir(parents=True, exist_ok=True)
    weights = (arguments.weights / f"{NETWORK}.pt").resolve()
    roots = {"films": ["data=xray", f"data.root={arguments.films}"], "photos": [f"data.root={arguments.photos}"]}
    for images in arguments.sets:
        tested = ["data.test_fraction=0.2"] if images == "photos" else []
        lay_out([*roots[images], *tested], weights, cache / images)
    fill_caches(cache, weights)
    chosen = list(installed([CONTENDERS[name] for name in dict.fromkeys([OURS, *arguments.only])], cache))
    results = read(arguments.out / "results.csv")
    if arguments.fresh:
        again = {contender.name for contender, *_ in chosen}
        results = forgotten(results, again - {OURS}, {(a, b) for a in arguments.sets for b in arguments.modes}, OURS)
    bench = Bench(cache, weights, arguments.limit)
    for seed in range(arguments.seed, arguments.seed + arguments.turns):
        for images in arguments.sets:
            for mode in arguments.modes:
                for result in bench.turn(images, mode, seed, chosen):
                    print(result, flush=True)
                    results.append(result)
                    write(arguments.out / "results.csv", results)
    table = tables(results, OURS)
    head = (
        f"{processor_name()}, {os.cpu_count()} cores. Made by `make bench-peers` from `results.csv`; see `README.md`."
    )
    (arguments.out / "results.md").write_text(f"{head}\n\n{table}")
    print(table)


def installed(contenders: list[Contender], cache: Path) -> Iterator[tuple[Contender, Path, str]]:
    """Those that can be installed, with interpreter and version; of the others it is said that they can't."""
    for each in contenders:
        try:
            python = each.environment.interpreter(cache / "environments")
        except subprocess.CalledProcessError as error:
            print(f"{each.name} can't be installed: {error}", flush=True)
            continue
        yield each, python, version_of(each.package, python)


def parsed() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--films", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True, help="folder with resnet18.pt")
    peers = [name for name in CONTENDERS if name != OURS]
    some = {"type": lambda text: text.split(","), "help": "comma-separated"}
    parser.add_argument("--only", default=peers, **some)  # type: ignore[arg-type]
    parser.add_argument("--sets", default=["films", "photos"], **some)  # type: ignore[arg-type]
    parser.add_argument("--modes", default=["default", "equal"], **some)  # type: ignore[arg-type]
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1, help="of the first turn")
    parser.add_argument("--limit", type=float, default=1200, help="seconds that a command may take")
    parser.add_argument("--fresh", action="store_true", help="drop what was found before of what is measured now")
    kept = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "raylight-bench"
    parser.add_argument("--cache", type=Path, default=kept, help="of environments, images and weights")
    parser.add_argument("--out", type=Path, default=HERE, help="folder of results.csv and results.md")
    return parser.parse_args()


if __name__ == "__main__":
    main()
