"""Assigning files to train, val and test.

Splits that the data set ships are kept. Missing ones are cut from the rest, stratified by class, without dividing a
group: files of one patient, with the same content, or near-duplicates. Splits are a function of the seed and the files'
contents; file names, paths and order don't matter.

A single algorithm makes all of them: groups are shuffled by (seed, content) and taken as long as no class exceeds its share.
A held-out part thus has exactly its share of each class, unless groups are too large. Folds are cut in the same way, one
after the other. (scikit-learn's StratifiedGroupKFold supports only fractions of 1/k, and takes 6 s for 25,000 groups.)

Not here: finding near-duplicates (``duplicates``).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from raylight.config.schema import DataConfig
from raylight.data.index import Index
from raylight.data.splits.duplicates import connected_groups, picture_groups
from raylight.errors import DataError


def assign_splits(index: Index, data: DataConfig, seed: int) -> Index:
    """Assigns each usable file to a split.

    Args:
        index: all files, with the splits that the data set ships.
        data: fractions, folds, ``limit``, and whether near-duplicates stay together.
        seed: of the splits.

    Returns:
        The index with ``split`` filled in, null for bad files, and without the files that ``data.limit`` excludes.

    Raises:
        DataError: the settings are contradictory, or a split would lack a class.
    """
    _check(data)
    index = limit_per_class(index, data.limit, seed)
    usable = index.column("status") == "ok"
    cutter = _Cutter(index.select(usable), data, seed)
    splits = np.full(len(index), None, dtype=object)
    splits[usable] = cutter.folds(data.folds, data.fold or 0) if data.folds else cutter.holdout()
    return index.with_column("split", splits)


def split_size_warnings(before: Index, after: Index, data: DataConfig) -> list[str]:
    """Warns where the size of a split differs from the settings: small classes make it larger, large groups smaller.

    Args:
        before: the index with the splits that the data set ships.
        after: the index with ``split`` filled in.
        data: the fractions.

    Returns:
        A sentence or two per warning.
    """
    if data.folds:
        return []
    shipped, splits = set(before.column("split")), after.column("split")
    usable = after.column("status") == "ok"
    groups = np.array([group or "" for group in after.column("group")], dtype=object)
    sizes = dict(zip(*np.unique(groups[usable].astype(str), return_counts=True), strict=True))
    grouped = usable & np.array([bool(group) and sizes.get(group, 0) > 1 for group in groups], dtype=bool)
    warnings = []
    for split, wanted in (("val", data.val_fraction), ("test", data.test_fraction)):
        pool = usable & ~np.isin(splits, list(shipped - {"train", None}))
        if split in shipped or not wanted or not pool.any():
            continue
        held_out = pool & (splits == split)
        share = held_out.sum() / pool.sum()
        if share > 1.25 * wanted:
            warnings.append(
                f"{split} is {share:.0%} of the images, more than data.{split}_fraction={wanted:g}: each class keeps at least "
                "one image there, and some have very few. Cross-validation (data.folds) wastes none."
            )
        grouped_share = (held_out & grouped).sum() / max((pool & grouped).sum(), 1)
        if (pool & grouped).sum() >= 200 and grouped_share < 0.75 * wanted:
            warnings.append(
                f"Of the images of patients (or objects) with several, {grouped_share:.1%} are in {split}, not {wanted:.0%}: "
                "large groups often don't fit into the rest of a class's share. Another data.split_seed holds out others."
            )
    return warnings


def limit_per_class(index: Index, limit: int | None, seed: int) -> Index:
    """Keeps at most ``limit`` usable files per class, chosen by (seed, content), and all bad files.

    Args:
        index: all files.
        limit: maximum number per class; ``None`` keeps all.
        seed: of the choice.

    Returns:
        The files that are kept, in their order.
    """
    if limit is None:
        return index
    rank = np.array([_shuffle_key(seed, "limit", sha or "") for sha in index.column("sha256")])
    usable, labels = index.column("status") == "ok", index.column("label")
    keep = ~usable
    for name in index.class_names:
        members = np.flatnonzero(usable & (labels == name))
        keep[members[np.argsort(rank[members], kind="stable")][:limit]] = True
    return index.select(keep)


def _check(data: DataConfig) -> None:
    if data.limit is not None and data.limit < 1:
        raise DataError(f"data.limit={data.limit}: expected 1 or more images per class, or null for all.")
    if data.fold is not None and data.folds is None:
        raise DataError(
            f"data.fold={data.fold} without data.folds: say how many folds there are, such as data.folds=5."
        )
    if data.folds is not None:
        if data.folds < 2:
            raise DataError(f"data.folds={data.folds}: expected 2 or more.")
        if data.fold is None:
            raise DataError(
                f"data.folds={data.folds} without data.fold: say which one is held out, 0 to {data.folds - 1}."
            )
        if not 0 <= data.fold < data.folds:
            raise DataError(f"data.fold={data.fold}: expected 0 to {data.folds - 1}, as data.folds={data.folds}.")
    if not 0 <= data.val_fraction < 1:
        raise DataError(f"data.val_fraction={data.val_fraction:g}: expected 0 or more and less than 1.")
    if not 0 <= data.test_fraction < 1:
        raise DataError(f"data.test_fraction={data.test_fraction:g}: expected 0 or more and less than 1.")
    if data.val_fraction + data.test_fraction >= 1:
        raise DataError(
            f"data.val_fraction={data.val_fraction:g} and data.test_fraction={data.test_fraction:g} leave nothing to train on."
        )


@dataclass(frozen=True)
class _Group:
    """Files that must stay together.

    Attributes:
        key: the smallest SHA-256 among them.
        members: positions of the files.
        counts: number of files per class.
    """

    key: str
    members: tuple[int, ...]
    counts: tuple[int, ...]


class _Cutter:
    """Assigns usable files to train, val and test."""

    def __init__(self, index: Index, data: DataConfig, seed: int) -> None:
        self.data = data
        self.seed = seed
        self.class_names = index.class_names
        self.targets = index.targets()
        self.hashes = index.column("sha256")
        self.shipped = index.column("split")
        self.linked = linked_groups(index, data.group_duplicates)

    def holdout(self) -> list[str]:
        """The split of each file; test and val are cut where the data set doesn't ship them."""
        splits = np.array([split or "train" for split in self.shipped], dtype=object)
        pool = splits == "train"
        shares = {
            "test": 0.0 if (splits == "test").any() else self.data.test_fraction,
            "val": 0.0 if (splits == "val").any() else self.data.val_fraction,
        }
        # A group that a shipped split divides stays in train: holding it out would divide it further.
        free = pool & ~np.isin(self.linked, self.linked[~pool])
        for name, share in shares.items():
            if share:
                splits[self._cut(free & (splits == "train"), self._share(pool, share), f"data.{name}_fraction")] = name
        return list(splits)

    def folds(self, folds: int, fold: int) -> list[str]:
        """The split of each file, with one of the folds as val."""
        splits = np.array(["test" if split == "test" else "train" for split in self.shipped], dtype=object)
        if not (splits == "test").any() and self.data.test_fraction:
            pool = np.ones(len(splits), dtype=bool)
            splits[self._cut(pool, self._share(pool, self.data.test_fraction), "data.test_fraction")] = "test"
        left = splits == "train"
        try:
            parts = self._parts(left, folds)
        except DataError as error:
            raise DataError(f"{error} {self._fewer_folds(left, folds)}") from error
        splits[parts[fold]] = "val"
        return list(splits)

    def _parts(self, left: Bool[np.ndarray, " file"], folds: int) -> list[Int64[np.ndarray, " selected"]]:
        """The files of each fold; all folds are always cut, so that an error doesn't depend on which one is held out."""
        left, parts = left.copy(), []
        for number in range(folds - 1):
            parts.append(self._cut(left, self._share(left, 1 / (folds - number)), "data.folds"))
            left[parts[-1]] = False
        self._require(left, np.ones(len(self.class_names), dtype=np.int64), "data.folds")
        return [*parts, np.flatnonzero(left)]

    def _fewer_folds(self, left: Bool[np.ndarray, " file"], folds: int) -> str:
        """Suggests a number of folds for which there are enough images; found by trying."""
        rarest = min(len(np.unique(self.linked[left & (self.targets == k)])) for k in range(len(self.class_names)))
        for fewer in range(min(folds - 1, rarest), 1, -1):
            try:
                self._parts(left, fewer)
            except DataError:
                continue
            return f"data.folds={fewer} works."
        return "No number of folds works: at least two groups of each class are needed."

    def _share(self, pool: Bool[np.ndarray, " file"], share: float) -> Int64[np.ndarray, " class"]:
        """Number of files per class to hold out: a share of those in the pool, at least one."""
        counts = np.bincount(self.targets[pool], minlength=len(self.class_names))
        return np.asarray(np.maximum(np.floor(counts * share + 0.5), 1), dtype=np.int64)

    def _cut(
        self, free: Bool[np.ndarray, " file"], wanted: Int64[np.ndarray, " class"], setting: str
    ) -> Int64[np.ndarray, " selected"]:
        """Positions of the files to hold out; an error if a class has too few groups to be on both sides."""
        self._require(free, wanted, setting)
        groups = sorted(self._groups(free), key=lambda group: _shuffle_key(self.seed, setting, group.key))
        missing = [int(count) for count in wanted]
        taken: list[_Group] = []
        too_large: list[_Group] = []
        for group in groups:
            fits = all(count <= gap for count, gap in zip(group.counts, missing, strict=True))
            (taken if fits else too_large).append(group)
            if fits:
                missing = [gap - count for gap, count in zip(missing, group.counts, strict=True)]
        for group in too_large if any(missing) else ():
            # Only groups larger than what is missing are left: take one if the result gets closer to what is wanted.
            after = [gap - count for gap, count in zip(missing, group.counts, strict=True)]
            if sum(map(abs, after)) < sum(map(abs, missing)):
                taken.append(group)
                missing = after
        part = np.array(sorted(member for group in taken for member in group.members), dtype=np.int64)
        rest = free.copy()
        rest[part] = False
        for number, name in enumerate(self.class_names):
            if not (self.targets[part] == number).any() or not (self.targets[rest] == number).any():
                raise DataError(self._too_few(name, free, setting))
        return part

    def _require(self, free: Bool[np.ndarray, " file"], wanted: Int64[np.ndarray, " class"], setting: str) -> None:
        counts = np.bincount(self.targets[free], minlength=len(self.class_names))
        for number, name in enumerate(self.class_names):
            if counts[number] < wanted[number]:
                raise DataError(self._too_few(name, free, setting))

    def _too_few(self, name: str, free: Bool[np.ndarray, " file"], setting: str) -> str:
        of_class = free & (self.targets == self.class_names.index(name))
        files, groups = int(of_class.sum()), len(np.unique(self.linked[of_class]))
        value = {
            "data.folds": self.data.folds,
            "data.val_fraction": self.data.val_fraction,
            "data.test_fraction": self.data.test_fraction,
        }[setting]
        shipped = np.array([split is not None and split != "train" for split in self.shipped], dtype=bool)
        copied = ~shipped & (self.targets == self.class_names.index(name)) & np.isin(self.linked, self.linked[shipped])
        if not files and copied.any():
            parts = " and ".join(sorted(set(self.shipped[shipped])))
            return (
                f"All {int(copied.sum())} training images of {name!r} show the same pictures or patients as images in {parts}, "
                f"so none is left for {setting}={value}. If {parts} is a copy of train, remove it; Raylight then makes a "
                "split of its own."
            )
        remedy = (
            f"Choose a smaller {setting}."
            if groups > 1 and setting != "data.folds"
            else "Add images of it, or leave the class out: it needs at least one group for each of train, val and test."
            if setting != "data.folds"
            else "Add images of it, or choose fewer folds."
        )
        return (
            f"The class {name!r} has too few images for {setting}={value}: {files} left, in {groups} group(s) that stay "
            f"together (same patient, same picture). {remedy}"
        )

    def _groups(self, free: Bool[np.ndarray, " file"]) -> list[_Group]:
        positions = np.flatnonzero(free)
        members: dict[int, list[int]] = {}
        for position in positions.tolist():
            members.setdefault(int(self.linked[position]), []).append(position)
        return [self._group(part) for part in members.values()]

    def _group(self, members: Sequence[int]) -> _Group:
        counts = [0] * len(self.class_names)
        for member in members:
            counts[int(self.targets[member])] += 1
        return _Group(min(self.hashes[member] for member in members), tuple(members), tuple(counts))


def linked_groups(index: Index, duplicates: bool) -> Int64[np.ndarray, " file"]:
    """Finds files that must stay together: of one patient or object, with the same content, or near-duplicates.

    Args:
        index: with thumbnails, if ``duplicates``.
        duplicates: whether near-duplicates stay together.

    Returns:
        Group number of each file, from 0.
    """
    first_of: dict[int | str, int] = {}
    pictures, patients = picture_groups(index, duplicates).tolist(), index.column("group")
    edges = [(first_of.setdefault(number, position), position) for position, number in enumerate(pictures)]
    edges += [
        (first_of.setdefault(name, position), position) for position, name in enumerate(patients) if name is not None
    ]
    return connected_groups(len(index), edges)


def _shuffle_key(seed: int, purpose: str, key: str) -> str:
    """A sort key that shuffles by seed and content."""
    return hashlib.sha256(f"{seed} {purpose} {key}".encode()).hexdigest()
