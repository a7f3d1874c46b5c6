"""One run, with 1 and 2 threads, decoded by threads and by Ray: what is the same, and by how much the rest differs.

python -m experiments.reliability.determinism
"""

import csv
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path

import pyarrow.parquet as pq
from experiments.reliability.commands import TINY, Commands
from experiments.reliability.tables import replace_table

WAYS = [("threads", 1), ("threads", 2), ("ray", 1), ("ray", 2)]


def main() -> int:
    """Run all ways, compare, write the table; 1 when splits or pixels differ anywhere."""
    folder = Path(tempfile.mkdtemp(prefix="rd-", dir="/tmp"))
    rows, first = [], None
    for decode, threads in WAYS:
        place = folder / f"{decode}-{threads}"
        place.mkdir()
        commands = Commands(place, place / "cache")
        words = [word for word in TINY if not word.startswith(("decode", "trainer.threads", "data.limit"))]
        code, output = commands.run(
            *words, f"decode={decode}", f"trainer.threads={threads}", "data.limit=100", "ray.object_store_gb=0.1"
        )
        if code:
            raise RuntimeError(output)
        run = commands.runs()[0]
        splits = sorted((row["path"], row["split"]) for row in pq.read_table(run / "index.parquet").to_pylist())
        (pixels,) = (place / "cache" / "images").glob("*/pixels.npy")
        with (run / "predictions.csv").open() as lines:
            found = [
                (row["path"], row["predicted"], [float(value) for value in list(row.values())[4:]])
                for row in csv.DictReader(lines)
            ]
        result = (
            hashlib.sha256(repr(splits).encode()).hexdigest(),
            hashlib.sha256(pixels.read_bytes()).hexdigest(),
            found,
        )
        first = first or result
        apart = max(
            abs(a - b)
            for one, other in zip(found, first[2], strict=True)
            for a, b in zip(one[2], other[2], strict=True)
        )
        turned = sum(one[1] != other[1] for one, other in zip(found, first[2], strict=True))
        rows.append((decode, threads, result[0] == first[0], result[1] == first[1], turned, len(found), apart))
    shutil.rmtree(folder)
    lines = [
        "| decoded by | torch's threads | same splits | same pixels | other decisions "
        "| largest difference of a probability |",
        "| --- | ---: | --- | --- | ---: | ---: |",
        *(
            f"| {decode} | {threads} | {'yes' if splits else 'NO'} | {'yes' if pixels else 'NO'} "
            f"| {turned} of {n} | {apart:.1g} |"
            for decode, threads, splits, pixels, turned, n, apart in rows
        ),
    ]
    print("\n".join(lines))
    replace_table(Path(__file__).with_name("README.md"), "determinism", lines)
    return int(not all(splits and pixels for _, _, splits, pixels, *_ in rows))


if __name__ == "__main__":
    sys.exit(main())
