"""Which files are for training, validation and test.

A split is a function of the seed and the files' content, not of their order or names. A split that the data set ships
is kept; the rest is cut stratified by class, and never through a group: a patient, a file that is there twice, or
nearly the same picture.
"""

import hashlib
from collections import Counter

import numpy as np
from jaxtyping import Int64

from raylight.config.schema import DataConfig
from raylight.data.index import Index
from raylight.errors import DataError


def assign_splits(index: Index, data: DataConfig, seed: int) -> Index:
    """Give each usable file a split; bad files have none.

    Args:
        index: the files; a shipped split stands in the column ``split``.
        data: fractions, folds and groups.
        seed: of the cuts.

    Raises:
        DataError: there are too few images (or groups) of a class for the cuts.
    """
    split = np.array(index.column("split"), dtype=object)
    split[np.array(index.column("status")) != "ok"] = None
    usable = np.flatnonzero(np.array(index.column("status")) == "ok")
    usable = _limited(index, usable, data.limit, seed)
    chosen = np.full(len(index), None, dtype=object)
    chosen[usable] = split[usable]
    groups = _groups(index, data.group_duplicates)
    shipped_test = bool((chosen[usable] == "test").any())
    shipped_val = bool((chosen[usable] == "val").any())
    free = usable[[chosen[i] in (None, "train") for i in usable]]
    chosen[free] = "train"
    targets = index.targets()
    hashes = np.array(index.column("sha256"), dtype=object)
    if not shipped_test and data.test_fraction > 0:
        held = _cut(free, targets, groups, hashes, data.test_fraction, seed, "test", index)
        chosen[held] = "test"
        free = free[~np.isin(free, held)]
    if data.folds is not None and data.fold is not None:
        if shipped_val:
            free = usable[chosen[usable] != "test"]
            chosen[free] = "train"
        chosen[_fold(free, targets, groups, hashes, data.folds, data.fold, seed)] = "val"
    elif not shipped_val and data.val_fraction > 0:
        share = data.val_fraction if shipped_test else data.val_fraction / (1 - data.test_fraction)
        chosen[_cut(free, targets, groups, hashes, share, seed, "validation", index)] = "val"
    return index.with_column("split", chosen.tolist())


def _groups(index: Index, duplicates: bool) -> Int64[np.ndarray, " file"]:
    """A number for each file, the same for files that must stay together."""
    from raylight.data.duplicates import duplicate_groups

    together = duplicate_groups(index) if duplicates else _same_content(index)
    named = index.column("group")
    parent = list(range(len(index)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for keys in (together.tolist(), named):
        first: dict[object, int] = {}
        for i, key in enumerate(keys):
            if key is not None:
                parent[root(i)] = root(first.setdefault(key, i))
    return np.array([root(i) for i in range(len(index))])


def _same_content(index: Index) -> Int64[np.ndarray, " file"]:
    first: dict[object, int] = {}
    return np.array([first.setdefault(key or i, i) for i, key in enumerate(index.column("sha256"))])


def _rank(name: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()


def _limited(
    index: Index, usable: Int64[np.ndarray, " usable"], limit: int | None, seed: int
) -> Int64[np.ndarray, " kept"]:
    if limit is None:
        return usable
    hashes, labels, splits = index.column("sha256"), index.column("label"), index.column("split")
    kept: list[int] = []
    count: Counter[tuple[str, str | None]] = Counter()
    for i in sorted(usable.tolist(), key=lambda i: _rank(hashes[i], seed)):
        if count[labels[i], splits[i]] < limit:
            count[labels[i], splits[i]] += 1
            kept.append(i)
    return np.array(sorted(kept))


def _ordered_groups(
    files: Int64[np.ndarray, " file"], groups: Int64[np.ndarray, " all"], hashes: np.ndarray, seed: int
) -> list[Int64[np.ndarray, " member"]]:
    """The groups in an order that depends on the seed and their content alone."""
    members: dict[int, list[int]] = {}
    for i in files.tolist():
        members.setdefault(int(groups[i]), []).append(i)
    ranked = sorted(members.values(), key=lambda group: _rank(min(hashes[i] for i in group), seed))
    return [np.array(group) for group in ranked]


def _cut(
    files: Int64[np.ndarray, " file"],
    targets: Int64[np.ndarray, " all"],
    groups: Int64[np.ndarray, " all"],
    hashes: np.ndarray,
    share: float,
    seed: int,
    name: str,
    index: Index,
) -> Int64[np.ndarray, " held"]:
    """Hold out a share of each class, whole groups at a time.

    Groups are taken in random order as long as each class stays nearer to its share with the group than without.
    """
    n_classes = int(targets.max()) + 1
    present = np.bincount(targets[files], minlength=n_classes)
    wanted = present * share
    wanted = np.where(present > 0, np.maximum(wanted, 1), 0)
    held: list[int] = []
    taken = np.zeros(n_classes)
    for group in _ordered_groups(files, groups, hashes, seed):
        counts = np.bincount(targets[group], minlength=n_classes)
        after = taken + counts
        if np.abs(after - wanted).sum() < np.abs(taken - wanted).sum() and (after <= np.maximum(wanted + 1, 1)).all():
            held += group.tolist()
            taken = after
    left = present - taken
    for number in np.flatnonzero(present):
        if taken[number] == 0 or left[number] == 0:
            raise DataError(
                f"The class {index.class_names[number]!r} has {present[number]} images that may be cut (groups stay "
                f"whole), too few to hold {share:.0%} of them out for {name}. Add images, or set data.val_fraction "
                "and data.test_fraction."
            )
    return np.array(sorted(held))


def _fold(
    files: Int64[np.ndarray, " file"],
    targets: Int64[np.ndarray, " all"],
    groups: Int64[np.ndarray, " all"],
    hashes: np.ndarray,
    folds: int,
    fold: int,
    seed: int,
) -> Int64[np.ndarray, " held"]:
    """The files of one fold, by scikit-learn's stratified and grouped splitter."""
    from sklearn.model_selection import StratifiedGroupKFold

    order = np.concatenate(_ordered_groups(files, groups, hashes, seed))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=seed)
    try:
        parts = list(splitter.split(order, targets[order], groups[order]))
    except ValueError as error:
        raise DataError(f"data.folds={folds}: {error}. Use fewer folds.") from error
    return order[parts[fold][1]]
