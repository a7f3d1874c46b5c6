"""An audit on one page: what was found, and nothing that loads or acts."""

import json
from html.parser import HTMLParser
from pathlib import Path

from raylight.auditing.dataset import Audit, audit_index, audit_lines
from raylight.auditing.page import write_audit
from tests.auditing.test_dataset import index_of, pictures


class Loads(HTMLParser):
    """Everything that a page would fetch or run."""

    found: list[str]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "script" or any(
            name in ("src", "href") and not (value or "").startswith("data:") for name, value in attrs
        ):
            self.found.append(tag)


def test_the_page_shows_what_was_found_and_loads_nothing(tmp_path: Path) -> None:
    root, cache = pictures(tmp_path / "d", brighter=70), tmp_path / "c"
    (root / "cat/<b>empty.jpg").touch()
    index = index_of(root, cache)
    audit = audit_index(index, "planted", cache)

    written = write_audit(audit, index, tmp_path / "out")

    page = written["html"].read_text()
    loads = Loads()
    loads.found = []
    loads.feed(page)
    assert loads.found == []
    assert "planted: 1 problem and 1 warning" in page
    assert "cat/&lt;b&gt;empty.jpg" in page
    values = json.loads(written["json"].read_text())
    assert values["clean"] is False
    assert [finding["kind"] for finding in values["findings"]] == ["give_away", "empty"]
    assert Audit.from_json(values).findings == audit.findings
    brief = audit_lines(audit, brief=True, without=("empty",))
    assert len(brief) == 2
    assert brief[0] == "Audit of 60 images: 1 problem:"
