"""Leakage: test images of the same patient or picture as a training or validation image.

Splits made by Raylight have none. Splits shipped with a data set may have some, and are kept as published; leaked images are
listed, and metrics are also reported without them. Not here: making splits (``split``).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from raylight.data.index import Index
from raylight.data.splits.duplicates import picture_groups
from raylight.data.splits.split import linked_groups

PATIENT_PATTERN = r"^(.+?)[-_]day\d|^((?:NORMAL2-)?IM-\d+)-\d|^(person\d+)_|^(.*?patient[-_]?\d+)"
"""The patient in a file name, as found in published data sets without patient IDs."""


@dataclass(frozen=True)
class SharedFile:
    """A test image whose patient or picture is also in train or val.

    Attributes:
        path: of the test image.
        partner: path of the image in train or val.
        why: what they share, ``patient`` or ``picture``.
        detail: name of the patient, or empty.
    """

    path: str
    partner: str
    why: str
    detail: str


def shared_with_training(index: Index, duplicates: bool = True) -> tuple[SharedFile, ...]:
    """Finds test images that share a patient or picture with an image in train or val.

    Args:
        index: with splits and thumbnails.
        duplicates: whether near-duplicates count, besides identical files (``data.group_duplicates``).

    Returns:
        The test images, sorted by path.
    """
    usable = index.usable()
    splits = usable.column("split")
    training, test = np.isin(splits, ("train", "val")), splits == "test"
    if not training.any() or not test.any():
        return ()
    paths, patients = usable.column("path"), usable.column("group")
    linked, pictures = linked_groups(usable, duplicates), picture_groups(usable, duplicates)
    found = []
    for position in np.flatnonzero(test & np.isin(linked, linked[training])):
        same_picture = np.flatnonzero(training & (pictures == pictures[position]))
        patient = patients[position]
        others = np.flatnonzero(training & (linked == linked[position]))
        if len(same_picture):
            shared = SharedFile(paths[position], paths[same_picture[0]], "picture", "")
        elif patient is not None and (same := others[patients[others] == patient]).size:
            shared = SharedFile(paths[position], paths[same[0]], "patient", str(patient))
        else:  # through a third image, such as a republished film of the same patient
            shared = SharedFile(paths[position], paths[others[0]], "patient", str(patient or ""))
        found.append(shared)
    return tuple(sorted(found, key=lambda shared: shared.path))


def patients_in_names(paths: Sequence[str]) -> list[str | None]:
    """Guesses the patient of each file from its name.

    Args:
        paths: of the files; folders don't matter.

    Returns:
        The patient of each file; ``None`` where its name suggests none.

    Example:
        >>> patients_in_names(["a/person7_virus_2.jpeg", "IM-0011-0001.jpeg", "cat.jpg"])
        ['person7', 'IM-0011', None]
    """
    pattern = re.compile(PATIENT_PATTERN, re.IGNORECASE)
    matches = [pattern.search(PurePosixPath(path).name) for path in paths]
    return [next((part for part in match.groups() if part), None) if match else None for match in matches]
