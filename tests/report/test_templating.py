"""Templates in which text is escaped and a missing fact is an error."""

import pytest
from jinja2 import UndefinedError

from raylight.report.templating import page_templates


def test_text_is_escaped_where_it_is_html_and_a_missing_fact_is_an_error() -> None:
    for escape, shown in ((True, "&lt;b&gt;"), (False, "<b>")):
        pages = page_templates("raylight.report", escape=escape)
        assert pages.from_string("{{ name }}").render(name="<b>") == shown
        with pytest.raises(UndefinedError, match="'name' is undefined"):
            pages.from_string("{{ name }}").render()
    assert "comparison.html" in page_templates("raylight.report").list_templates()
