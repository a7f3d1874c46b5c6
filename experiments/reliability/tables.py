"""Tables that commands write into a README, between two markers, so that no figure is typed by hand."""

from collections.abc import Sequence
from pathlib import Path


def replace_table(readme: Path, name: str, lines: Sequence[str]) -> None:
    """Put lines between ``<!-- NAME -->`` and ``<!-- end of NAME -->``.

    Raises:
        ValueError: the file has no such markers.
    """
    text = readme.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    if begin not in text or end not in text:
        raise ValueError(f"{readme} has no {begin} ... {end}")
    before, after = text.split(begin)[0], text.split(end)[1]
    readme.write_text("\n".join([before + begin, "", *lines, "", end]) + after, encoding="utf-8")
