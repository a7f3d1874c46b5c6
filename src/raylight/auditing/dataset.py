"""The audit of a data set: all its findings, cached by content.

Covers putting the checks together, the cache, and ``audit.json``. Leaves out the checks (``files``,
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
from raylight.auditing.metadata import file_metadata, read_makers
from raylight.auditing.metadata_baseline import (
    SAMPLE,
    BaselineScore,
    MetadataBaseline,
    baseline_finding,
    metadata_baseline,
)
from raylight.data.index import Index
from raylight.data.splits.split import linked_groups
from raylight.evaluation.bootstrap import sampled_positions
from raylight.storage.atomic import write_atomically

VERSION = 4
"""Raised with every change of a check; part of the key under which an audit is cached."""

SEVERITIES = ("problem", "warning", "note")

LOGGED_BY_RUN = ("unreadable", "empty", "not_an_image", "damaged", "odd")
"""Kinds of findings that a run logs itself, file by file."""

log = logging.getLogger("raylight")


@dataclass(frozen=True)
class Audit:
    """The findings of an audit of a data set, before anything is trained on it.

    Attributes:
        name: of the data set.
        root: its folder.
        files: all of them.
        usable: those that can be decoded.
        counts: usable files by class, then split.
        findings: the most severe first.
        metadata_baseline: how well metadata predicts the label; None with too few images.
        seconds: wall time, without building the index; 0 if the audit was cached.
        cameras: whether the camera was read from the files' headers.
    """

    name: str
    root: str
    files: int
    usable: int
    counts: Mapping[str, Mapping[str, int]]
    findings: tuple[Finding, ...]
    metadata_baseline: MetadataBaseline | None
    seconds: float
    cameras: bool

    @property
    def clean(self) -> bool:
        """Whether there is nothing worse than a note."""
        return all(finding.severity == "note" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        """The content of ``audit.json``."""
        fields = asdict(self)
        fields["give_away"] = fields.pop("metadata_baseline")
        return {"clean": self.clean, **fields}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Audit":
        """Read what ``as_json`` gave, after a round trip through JSON."""
        fields = {key: value for key, value in values.items() if key not in ("clean", "give_away")}
        findings = [
            Finding(**{**one, "files": tuple(tuple(part) for part in one["files"])}) for one in values["findings"]
        ]
        return cls(**{**fields, "findings": tuple(findings), "metadata_baseline": _baseline(values["give_away"])})


def audit_index(index: Index, name: str, cache_dir: Path, cameras: bool = True, workers: int = 1) -> Audit:
    """Audit a data set, or read the cached audit of the same contents.

    Args:
        index: all files, with thumbnails; ``split`` as shipped or as cut.
        name: of the data set.
        cache_dir: where audits are cached, in ``audit/``.
        cameras: read the camera from the files' headers, too: some 10,000 files per second.
        workers: files whose headers are read at a time.
    """
    began = time.perf_counter()
    path = cache_dir / "audit" / f"{_key(index, cameras)}.json"
    try:
        known = Audit.from_json(json.loads(path.read_text(encoding="utf-8", errors="surrogateescape")))
        return replace(known, name=name, root=str(index.root), seconds=0.0)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s is damaged (%s): the data is audited again.", path, error)
    usable = index.usable()
    found = None
    if len(usable):
        chosen = sampled_positions(len(usable), SAMPLE)
        sample = usable.select(chosen)
        makers = read_makers(index.root, list(sample.column("path")), workers) if cameras else None
        linked = linked_groups(usable, True)[chosen]
        found = metadata_baseline(file_metadata(sample, makers), sample.targets(), linked, index.class_names)
    finding = baseline_finding(found) if found is not None else None
    findings = (*audit_files(index), *([finding] if finding else ()))
    audit = Audit(
        name=name,
        root=str(index.root),
        files=len(index),
        usable=len(usable),
        counts=class_counts(index),
        findings=tuple(sorted(findings, key=lambda one: SEVERITIES.index(one.severity))),
        metadata_baseline=found,
        seconds=round(time.perf_counter() - began, 3),
        cameras=cameras,
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, to_text(audit.as_json()))
    except OSError as error:
        log.warning("The audit can't be cached in %s (%s).", path.parent, error.strerror)
    return audit


def to_text(values: Mapping[str, Any]) -> bytes:
    """Format JSON as it is written to files."""
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode("utf-8", "surrogateescape")


def audit_lines(audit: Audit, brief: bool = False, without: Sequence[str] = ()) -> list[str]:
    """Summarise an audit in a few lines for the terminal.

    Args:
        audit: of the data.
        brief: the findings without their remedies.
        without: kinds of findings to leave out.
    """
    shown = [finding for finding in audit.findings if finding.kind not in without]
    counts = Counter(finding.severity for finding in shown)
    total = ", ".join(f"{counts[name]} {name}{'s' * (counts[name] > 1)}" for name in SEVERITIES if counts[name])
    lines = [f"Audit of {audit.usable:,} images: {total or 'nothing found'}" + (":" if shown else ".")]
    for finding in shown:
        words = finding.sentence.split(". ")[0].rstrip(".") + "." if brief else finding.sentence
        lines.append(f"  {finding.severity}: {words}")
    return lines


def _key(index: Index, cameras: bool) -> str:
    """A hash of what was audited: each file's name, label, patient, split and content, and the checks' version."""
    digest = hashlib.sha256(
        repr((VERSION, cameras, index.class_names, index.ignored)).encode("utf-8", "backslashreplace")
    )
    for column in ("path", "label", "group", "split", "sha256", "status"):
        digest.update("\0".join(str(value) for value in index.column(column)).encode("utf-8", "backslashreplace"))
        digest.update(b"\1")
    return digest.hexdigest()[:24]


def _baseline(values: Mapping[str, Any] | None) -> MetadataBaseline | None:
    if values is None:
        return None

    def score(one: Mapping[str, Any]) -> BaselineScore:
        return BaselineScore(**{**one, "typical": tuple(one["typical"])})

    return MetadataBaseline(
        **{
            **values,
            "together": score(values["together"]),
            "file_alone": score(values["file_alone"]),
            "single": tuple(map(score, values["single"])),
            "class_names": tuple(values["class_names"]),
        }
    )
