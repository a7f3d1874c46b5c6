"""The audit of a data set: all its findings, remembered by content.

Covers putting the checks together, the memory, and ``audit.json``. Leaves out the checks (``files``,
``metadata_baseline``) and the page (``page``).
"""

import hashlib
import json
import logging
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from raylight.auditing.files import audit_files
from raylight.auditing.findings import Finding, class_counts
from raylight.auditing.metadata import read_makers, side_facts
from raylight.auditing.metadata_baseline import SAMPLE, GiveAway, Guessed, give_away, give_away_finding
from raylight.data.index import Index
from raylight.data.splits.split import linked_groups
from raylight.evaluation.bootstrap import sampled_positions
from raylight.storage.atomic import write_atomically

VERSION = 4
"""Raised with every change of a check; part of the name under which an audit is remembered."""

SEVERITIES = ("problem", "warning", "note")

TOLD_AT_ONCE = ("unreadable", "empty", "not_an_image", "damaged", "odd")
"""Kinds of findings that a run logs by itself, file by file."""

log = logging.getLogger("raylight")


@dataclass(frozen=True)
class Audit:
    """What is to be known of a data set before anything is trained on it.

    Attributes:
        name: of the data set.
        root: its folder.
        files: all of them.
        usable: those that can be decoded.
        counts: usable files by class, then split.
        findings: the gravest first.
        give_away: what the label can be guessed from; None where there are too few images to tell.
        seconds: that it took, without what the index knew already; 0 where it was remembered.
        cameras: whether the files' headers were searched for the camera, too.
    """

    name: str
    root: str
    files: int
    usable: int
    counts: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]
    give_away: GiveAway | None
    seconds: float
    cameras: bool

    @property
    def clean(self) -> bool:
        """Whether there is nothing worse than a note."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """What ``audit.json`` holds."""
        return {"clean": self.clean, **asdict(self)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Audit":
        """From what ``as_json`` gave, as JSON keeps it."""
        fields = {key: value for key, value in values.items() if key != "clean"}
        findings = [
            Finding(**{**one, "files": tuple(tuple(part) for part in one["files"])}) for one in values["findings"]
        ]
        return cls(**{**fields, "findings": tuple(findings), "give_away": _give_away(values["give_away"])})


def audit_index(index: Index, name: str, cache_dir: Path, cameras: bool = True, workers: int = 1) -> Audit:
    """Audit a data set, or recall what an audit of the same contents found.

    Args:
        index: all files, with thumbnails; ``split`` as shipped or as cut.
        name: of the data set.
        cache_dir: where audits are remembered, in ``audit/``.
        cameras: read the files' headers for the camera, too: some 10,000 files per second.
        workers: files whose headers are read at a time.
    """
    began = time.perf_counter()
    place = cache_dir / "audit" / f"{_key(index, cameras)}.json"
    try:
        known = Audit.from_json(json.loads(place.read_text(encoding="utf-8", errors="surrogateescape")))
        return replace(known, name=name, root=str(index.root), seconds=0.0)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s): the data is audited anew.", place, error)
    usable = index.usable()
    found = None
    if len(usable):
        chosen = sampled_positions(len(usable), SAMPLE)
        sample = usable.select(chosen)
        makers = read_makers(index.root, list(sample.column("path")), workers) if cameras else None
        linked = linked_groups(usable, True)[chosen]
        found = give_away(side_facts(sample, makers), sample.targets(), linked, index.class_names)
    told = give_away_finding(found) if found is not None else None
    findings = (*audit_files(index), *([told] if told else ()))
    audit = Audit(
        name=name,
        root=str(index.root),
        files=len(index),
        usable=len(usable),
        counts=class_counts(index),
        findings=tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity))),
        give_away=found,
        seconds=round(time.perf_counter() - began, 3),
        cameras=cameras,
    )
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(place, to_text(audit.as_json()))
    except OSError as error:
        log.warning("The audit can't be remembered in %s (%s).", place.parent, error.strerror)
    return audit


def to_text(values: Mapping[str, Any]) -> bytes:
    """JSON as it is written to files."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")


def audit_lines(audit: Audit, brief: bool = False, without: Sequence[str] = ()) -> list[str]:
    """An audit in a few lines of a terminal.

    Args:
        audit: of the data.
        brief: what was found, without what to do about it.
        without: kinds of findings that have been told already.
    """
    told = [finding for finding in audit.findings if finding.kind not in without]
    counts = Counter(finding.severity for finding in told)
    total = ", ".join(f"{counts[name]} {name}{'s' * (counts[name] > 1)}" for name in SEVERITIES if counts[name])
    lines = [f"Audit of {audit.usable:,} images: {total or 'nothing found'}" + (":" if told else ".")]
    for finding in told:
        words = finding.sentence.split(". ")[0].rstrip(".") + "." if brief else finding.sentence
        lines.append(f"  {finding.severity}: {words}")
    return lines


def _key(index: Index, cameras: bool) -> str:
    """Names what was audited: each file's name, label, patient, split and content, and the checks' version."""
    digest = hashlib.sha256(
        repr((VERSION, cameras, index.class_names, index.ignored)).encode("utf-8", "backslashreplace")
    )
    for column in ("path", "label", "group", "split", "sha256", "status"):
        digest.update("\0".join(str(value) for value in index.column(column)).encode("utf-8", "backslashreplace"))
        digest.update(b"\1")
    return digest.hexdigest()[:24]


def _give_away(values: Mapping[str, Any] | None) -> GiveAway | None:
    if values is None:
        return None

    def guessed(one: Mapping[str, Any]) -> Guessed:
        return Guessed(**{**one, "typical": tuple(one["typical"])})

    return GiveAway(
        **{
            **values,
            "together": guessed(values["together"]),
            "file_alone": guessed(values["file_alone"]),
            "single": tuple(map(guessed, values["single"])),
            "class_names": tuple(values["class_names"]),
        }
    )
