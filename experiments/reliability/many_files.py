"""100,000 images in one folder: found, indexed, split and found again, in how much time and memory.

python -m experiments.reliability.many_files
"""

import resource
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from experiments.reliability.tables import replace_table

from raylight.config.schema import DataConfig
from raylight.data.index import build_index
from raylight.data.sources.source import find_images
from raylight.data.splits.split import assign_splits
from raylight.machine import usable_cpus

FILES = 100_000


def main() -> int:
    """Write the files, time each stage, write the table."""
    folder = Path(tempfile.mkdtemp(prefix="raylight-many-"))
    generator = np.random.default_rng(1)
    try:
        root, cache = folder / "pictures", folder / "cache"
        root.mkdir()
        begin = time.perf_counter()
        for number in range(FILES):
            (root / f"{('cat', 'dog')[number % 2]}.{number}.ppm").write_bytes(b"P6 16 16 255\n" + generator.bytes(768))
        seconds = {f"written ({FILES:,} files in one folder)": time.perf_counter() - begin}
        config = DataConfig(name="many", root=str(root))
        for name in ("indexed the first time", "indexed again, nothing read"):
            begin = time.perf_counter()
            source = find_images(config, cache)
            index = build_index(source, cache, usable_cpus())
            seconds[name] = time.perf_counter() - begin
            if len(index.usable()) != FILES:
                raise RuntimeError(f"{len(index.usable()):,} of {FILES:,} files are usable")
        begin = time.perf_counter()
        split = assign_splits(index, config, 1)
        seconds["near-duplicates sought, split"] = time.perf_counter() - begin
        sizes = [len(split.in_split(name)) for name in ("train", "val", "test")]
        if sum(sizes) != FILES:
            raise RuntimeError(f"splits of {sizes}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    lines = ["| stage | seconds |", "| --- | ---: |", *(f"| {name} | {value:.1f} |" for name, value in seconds.items())]
    lines += ["", f"Splits of {sizes}; most memory in use: {peak:.1f} GB."]
    print("\n".join(lines))
    replace_table(Path(__file__).with_name("README.md"), "many files", lines)
    return 0


if __name__ == "__main__":
    sys.exit(main())
