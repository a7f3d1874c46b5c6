"""The section on a run's data: files by split and class, image sizes, rejected files."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from raylight.config.rules.shapes import height_width
from raylight.report.facts import SPLITS, RunFacts
from raylight.report.images import (
    SAMPLE,
    OriginalFiles,
    jpeg,
    sample_paths,
)

ROWS = 40
"""Maximum number of rows of a table."""


def data(facts: RunFacts) -> dict[str, Any]:
    """Gather files by split and class, rejected files, image sizes and samples."""
    index, counts = facts.index, facts.counts
    names = list(counts)
    per_class = max(1, min(6, 36 // len(names)))
    files = OriginalFiles(index, facts.preprocessing.decode_spec)
    chosen = sample_paths(index, per_class, names[:36])
    drawn = {name: [(path, files.pixels(path, SAMPLE)) for path in paths] for name, paths in chosen.items()}
    samples = [
        (name, [(path, jpeg(pixels)) for path, pixels in found if pixels is not None]) for name, found in drawn.items()
    ]
    totals = {split: facts.total(split) for split in SPLITS}
    rejected = index.rejected()
    return {
        "name": facts.config.data.name,
        "n": len(index),
        "splits": SPLITS,
        "balance": [(name, counts[name], sum(counts[name].values())) for name in names[:ROWS]],
        "more_classes": len(names) - len(names[:ROWS]),
        "totals": totals,
        "groups": len({group for group in index.column("group") if group is not None}),
        "shared": len(facts.shared_groups),
        "sizes": _sizes(facts),
        "rejected": rejected[:ROWS],
        "n_rejected": len(rejected),
        "samples": [(name, pictures) for name, pictures in samples if pictures],
        "missing": files.missing_words,
        "resize": facts.preprocessing.resize,
        "audit": facts.audit,
    }


def _sizes(facts: RunFacts) -> dict[str, Any]:
    """Width and height of the usable files: in words, and as dots of a drawing 560 by 300."""
    usable = facts.index.usable()
    width, height = np.array(usable.column("width")), np.array(usable.column("height"))
    labels = usable.targets()
    area = width * height / 1e6
    across, up = _ticks(int(width.max())), _ticks(int(height.max()))
    # A grid of 56 by 30 cells bounds the drawing however many files there are; each cell keeps its classes apart.
    cells = Counter(
        zip(
            (width / across[-1] * 56).round().astype(int).tolist(),
            (height / up[-1] * 30).round().astype(int).tolist(),
            labels.tolist(),
            strict=True,
        )
    )
    fullest = max(cells.values())
    coloured = len(facts.index.class_names) <= 6
    dots = [
        {"x": x * 10, "y": 300 - y * 10, "r": round(2 + 6 * float(np.sqrt(n / fullest)), 1), "k": k if coloured else 0}
        for (x, y, k), n in sorted(cells.items(), key=lambda cell: -cell[1])
    ]
    return {
        "same": len(set(zip(width.tolist(), height.tolist(), strict=True))) == 1,
        "width": (int(width.min()), int(np.median(width)), int(width.max())),
        "height": (int(height.min()), int(np.median(height)), int(height.max())),
        "megapixels": (float(area.min()), float(np.median(area)), float(area.max())),
        "modes": Counter(usable.column("mode")).most_common(),
        "kinds": Counter(Path(path).suffix.lower() or "none" for path in usable.column("path")).most_common(),
        "input": height_width(facts.preprocessing.size)[::-1],
        "across": [(tick, round(560 * tick / across[-1])) for tick in across],
        "up": [(tick, round(300 - 300 * tick / up[-1])) for tick in up],
        "dots": dots,
        "classes": facts.index.class_names if coloured else [],
    }


def _ticks(most: int) -> list[int]:
    """Round numbers from 0 to the first that isn't below ``most``, 4 to 7 of them."""
    power = 10 ** (len(str(most)) - 1)
    step = next(step for step in (power // 5, power // 2, power, 2 * power) if step and most <= 6 * step)
    return list(range(0, -(-most // step) * step + 1, step))
