"""A source as a user would write it."""

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from PIL import Image


class Drawn:
    """Grey squares of two kinds; those of ``broken`` can't be read."""

    def __init__(self, count: int, broken: list[int] | None = None, fault: str = "none") -> None:
        self.count, self.broken, self.fault = count, broken or [], fault

    def entries(self) -> pa.Table:
        numbers = list(range(self.count))
        if self.fault == "raises":
            raise RuntimeError("the database is down\nand so on")
        if self.fault == "list":
            return numbers
        columns: dict[str, list[Any]] = {
            "key": [f"square/{number}" for number in numbers],
            "label": [number % 2 for number in numbers],
            "group": [f"p{number // 4}" for number in numbers],
            "split": ["train" if number % 3 else "test" for number in numbers],
            "age": [30 + number for number in numbers],
        }
        if self.fault == "no label":
            del columns["label"]
        if self.fault == "empty label":
            columns["label"][2] = None
        if self.fault == "label is NaN":
            columns["label"] = [0.0, 1.0, math.nan] * (self.count // 3)
        if self.fault == "gaps":
            columns["group"] = [0.0, math.nan] * (self.count // 2)
            columns["age"] = [math.nan, 30.0] * (self.count // 2)
        if self.fault == "twice":
            columns["key"][3] = "square/1"
        if self.fault == "split":
            columns["split"][1] = "holdout"
        return pa.table(columns)

    def read(self, key: str) -> bytes:
        number = int(key.split("/")[1])
        if number in self.broken:
            raise KeyError(key)
        stream = io.BytesIO()
        Image.fromarray(np.full((20, 20), 5 * number + 20, np.uint8)).save(stream, "PNG")
        return stream.getvalue()


class Logged(Drawn):
    """Adds a line to a file for each image that is read, by whichever process."""

    def __init__(self, count: int, log: str) -> None:
        super().__init__(count)
        self.log = log

    def read(self, key: str) -> bytes:
        with Path(self.log).open("a") as file:
            file.write(f"{key}\n")
        return super().read(key)
