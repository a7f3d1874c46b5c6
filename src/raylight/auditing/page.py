"""``audit.html`` and ``audit.json``: an audit for people and for programs.

Leaves out the checks and what they mean (``dataset``), and the layout (``templates/audit.html``).
"""

from dataclasses import dataclass
from pathlib import Path

from raylight.auditing.dataset import SEVERITIES, Audit, to_text
from raylight.auditing.findings import Finding
from raylight.auditing.metadata_baseline import percent, sentence
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index
from raylight.report.images import SAMPLE, OriginalFiles, jpeg
from raylight.report.pages import render
from raylight.storage.atomic import write_atomically

SETS = 8
"""Maximum number of sets of files shown per finding; ``audit.json`` lists more."""

OF_A_SET = 6
"""Maximum number of files shown per set."""


@dataclass(frozen=True)
class Shown:
    """A file on the page.

    Attributes:
        path: relative to the root.
        label: its class.
        split: its split; empty without one.
        uri: its picture as a data URI; None without one.
    """

    path: str
    label: str
    split: str
    uri: str | None


def write_audit(audit: Audit, index: Index, out: Path) -> dict[str, Path]:
    """Write ``audit.json`` and ``audit.html`` into a folder, which is made if it doesn't exist.

    Args:
        audit: what was found.
        index: the files, for their pictures.
        out: the folder.

    Returns:
        The files by kind: json, html.

    Raises:
        OSError: the folder can't be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    return {
        "json": write_atomically(out / "audit.json", to_text(audit.as_json())),
        "html": write_atomically(out / "audit.html", render_audit(audit, index).encode("utf-8", "replace")),
    }


def render_audit(audit: Audit, index: Index) -> str:
    """Render the page: HTML that loads no other file."""
    files = OriginalFiles(index, DecodeSpec(SAMPLE, "stretch"))
    about = {
        path: (label, split or "")
        for path, label, split in zip(index.column("path"), index.column("label"), index.column("split"), strict=True)
    }
    # Files that can't be decoded have no picture, and files that aren't images aren't in the index.
    drawable = set(index.usable().column("path"))

    def shown(path: str) -> Shown:
        pixels = files.pixels(path, SAMPLE) if path in drawable else None
        return Shown(path, *about.get(path, ("", "")), None if pixels is None else jpeg(pixels))

    def pictured(finding: Finding) -> list[list[Shown]]:
        return [[shown(path) for path in part[:OF_A_SET]] for part in finding.files[:SETS]]

    totals: dict[str, int] = {}
    for row in audit.counts.values():
        for split, count in row.items():
            totals[split] = totals.get(split, 0) + count
    return render(
        "audit.html",
        audit=audit,
        severities={name: sum(one.severity == name for one in audit.findings) for name in SEVERITIES},
        findings=[(finding, pictured(finding)) for finding in audit.findings],
        totals=totals,
        baseline=audit.metadata_baseline,
        sentence=sentence(audit.metadata_baseline) if audit.metadata_baseline else "",
        percent=percent,
    )
