"""The findings of an audit, and the number of files per class."""

from collections import Counter
from dataclasses import dataclass

from raylight.data.index import Index


@dataclass(frozen=True)
class Finding:
    """A property of the data that may matter for the results.

    Attributes:
        kind: its name for programs, such as ``duplicates_across_splits``.
        severity: ``problem`` (results can't be trusted), ``warning`` (look at it) or ``note`` (for information).
        title: a heading.
        sentence: what was found, what it means, what to do.
        count: number of files, or sets of files, concerned.
        files: these files, in sets of those that belong together; at most ``SETS_LISTED`` sets.
    """

    kind: str
    severity: str
    title: str
    sentence: str
    count: int = 0
    files: tuple[tuple[str, ...], ...] = ()


def class_counts(index: Index) -> dict[str, dict[str, int]]:
    """Count usable files by class, then split; those without a split under ``""``."""
    usable = index.usable()
    counts = Counter(zip(usable.column("label"), usable.column("split"), strict=True))
    splits = [name for name in ("train", "val", "test", None) if any(split == name for _, split in counts)]
    return {label: {split or "": int(counts.get((label, split), 0)) for split in splits} for label in index.class_names}
