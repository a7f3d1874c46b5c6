"""How many files each class has."""

import numpy as np
import pyarrow as pa

from raylight.auditing.findings import class_counts
from raylight.data.index import INDEX_SCHEMA, Index


def test_usable_files_are_counted_by_class_and_split() -> None:
    rows = [("cat", "train", "ok")] * 3 + [("cat", "test", "ok"), ("dog", "test", "ok"), ("dog", "train", "bad")]
    known = {name: [row[i] for row in rows] for i, name in enumerate(("label", "split", "status"))}
    known["path"] = [f"{i}.png" for i in range(len(rows))]
    columns = {field.name: pa.array(known.get(field.name, [None] * len(rows)), field.type) for field in INDEX_SCHEMA}
    index = Index("here", ("cat", "dog", "emu"), "dog", pa.table(columns), np.zeros((0, 32, 32, 3), np.uint8))
    assert class_counts(index) == {
        "cat": {"train": 3, "test": 1},
        "dog": {"train": 0, "test": 1},
        "emu": {"train": 0, "test": 0},
    }
