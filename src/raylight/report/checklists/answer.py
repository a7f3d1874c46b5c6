"""An answer to an item of a checklist, with the files that show it."""

from dataclasses import dataclass

from raylight.report.facts import RunFacts

REPORT = "report.html"


@dataclass(frozen=True)
class Answer:
    """What a run can say to an item.

    Attributes:
        text: sentences that hold of this run.
        evidence: files of the run folder, ``report.html`` with the anchor of a section; those that don't exist aren't shown.
    """

    text: str
    evidence: tuple[str, ...]


def listed(parts: list[str]) -> str:
    """Words as a list in a sentence.

    Args:
        parts: one or more.

    >>> listed(["a", "b", "c"])
    'a, b and c'
    """
    return " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))


def by_class(facts: RunFacts, split: str) -> str:
    """Images of a split by class, such as ``67 NORMAL, 67 PNEUMONIA``; of more than twelve classes their number."""
    counts = {name: row[split] for name, row in facts.counts.items()}
    if len(counts) > 12:
        return f"{len(counts)} classes of {min(counts.values())} to {max(counts.values())} images"
    return ", ".join(f"{count} {name}" for name, count in counts.items())


SPLITS = {"train": "training", "val": "validation", "test": "test"}
"""Partitions, and what a text calls them."""
