"""The same picture more than once: identical files, and the same picture re-encoded, resized or republished."""

import numpy as np
from jaxtyping import Int64

from raylight.data.index import Index


def duplicate_groups(index: Index) -> Int64[np.ndarray, " file"]:
    """A number for each file; files that show the same picture share it."""
    first: dict[object, int] = {}
    return np.array([first.setdefault(key or i, i) for i, key in enumerate(index.column("sha256"))])
