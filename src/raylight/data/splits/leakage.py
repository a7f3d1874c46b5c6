"""Leakage: test images of the same patient or picture as a training or validation image.

Splits made by Raylight have none. Splits shipped with a data set may, and are kept as published; leaked images are
listed, and metrics are also reported without them. Not here: making splits (``split``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from raylight.data.index import Index
from raylight.data.splits.duplicates import duplicate_groups
from raylight.data.splits.split import linked_groups

LIKELY_SERIES = r"^(.+?)[-_]day\d|^((?:NORMAL2-)?IM-\d+)-\d|^(person\d+)_|^(.*?patient[-_]?\d+)"
"""File names of several images of one patient, as seen in data sets without patient IDs."""


@dataclass(frozen=True)
class SharedFile:
    """A test image whose patient or picture is also in train or val.

    Attributes:
        path: of the test image.
        partner: path of the image in train or val.
        why: ``patient`` or ``picture``.
        detail: the patient's name, or empty.
    """

    path: str
    partner: str
    why: str
    detail: str


def shared_with_training(index: Index, duplicates: bool = True) -> tuple[SharedFile, ...]:
    """Test images that share a patient or picture with an image in train or val.

    Args:
        index: with splits and thumbnails.
        duplicates: whether near-duplicates count, besides identical files (``data.group_duplicates``).

    Returns:
        Sorted by path.
    """
    usable = index.usable()
    splits = usable.column("split")
    learnt, tested = np.isin(splits, ("train", "val")), splits == "test"
    if not learnt.any() or not tested.any():
        return ()
    paths, groups = usable.column("path"), usable.column("group")
    linked = linked_groups(usable, duplicates)
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
    """The patient of each file, as guessed from its name; ``None`` where the name suggests none.

    Example:
        >>> likely_series(["a/person7_virus_2.jpeg", "IM-0011-0001.jpeg", "cat.jpg"])
        ['person7', 'IM-0011', None]
    """
    pattern = re.compile(LIKELY_SERIES, re.IGNORECASE)
    found = [pattern.search(PurePosixPath(path).name) for path in paths]
    return [next((part for part in match.groups() if part), None) if match else None for match in found]
