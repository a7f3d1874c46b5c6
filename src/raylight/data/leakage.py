"""Test images that training has met before: of the same patient, or the very same picture.

Splits that Raylight cuts have none. A split that the data set ships may, and is kept as it was published; what is
found here is named, and the metrics are also given without it. Leaves out the cutting (``split.py``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from raylight.data.duplicates import duplicate_groups
from raylight.data.index import Index
from raylight.data.split import together

LIKELY_SERIES = r"^(.+?)[-_]day\d|^((?:NORMAL2-)?IM-\d+)-\d|^(person\d+)_|^(.*?patient[-_]?\d+)"
"""What names of several images of one patient look like, in sets that say nothing about patients."""


@dataclass(frozen=True)
class SharedFile:
    """A test image whose patient or picture is also in train or validation.

    Attributes:
        path: of the test image.
        partner: one that was learnt from.
        why: ``patient``, or ``picture``.
        detail: the patient's name, or nothing.
    """

    path: str
    partner: str
    why: str
    detail: str


def shared_with_training(index: Index, duplicates: bool = True) -> tuple[SharedFile, ...]:
    """The test images that share a patient or a picture with an image that was learnt from, by path.

    Args:
        index: with ``split`` filled in, and thumbnails.
        duplicates: nearly the same picture counts as the same, not only the same file (``data.group_duplicates``).
    """
    usable = index.usable()
    splits = usable.column("split")
    learnt, tested = np.isin(splits, ("train", "val")), splits == "test"
    if not learnt.any() or not tested.any():
        return ()
    paths, groups = usable.column("path"), usable.column("group")
    linked = together(usable, duplicates)
    alike = (
        duplicate_groups(usable)
        if duplicates
        else np.unique(usable.column("sha256").astype(str), return_inverse=True)[1]
    )
    found = []
    for position in np.flatnonzero(tested & np.isin(linked, linked[learnt])):
        pictures = np.flatnonzero(learnt & (alike == alike[position]))
        patient = groups[position]
        others = np.flatnonzero(learnt & (linked == linked[position]))
        if len(pictures):
            shared = SharedFile(paths[position], paths[pictures[0]], "picture", "")
        elif patient is not None and (same := others[groups[others] == patient]).size:
            shared = SharedFile(paths[position], paths[same[0]], "patient", str(patient))
        else:  # through a third image, such as a republished film of the same patient
            shared = SharedFile(paths[position], paths[others[0]], "patient", str(patient or ""))
        found.append(shared)
    return tuple(sorted(found, key=lambda one: one.path))


def likely_series(paths: Sequence[str]) -> list[str | None]:
    """What the names of files suggest about the patient of each; None where they suggest nothing."""
    pattern = re.compile(LIKELY_SERIES, re.IGNORECASE)
    found = [pattern.search(PurePosixPath(path).name) for path in paths]
    return [next((part for part in match.groups() if part), None) if match else None for match in found]
