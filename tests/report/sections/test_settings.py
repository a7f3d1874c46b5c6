"""The settings that were typed, and those that differ from the defaults."""

from raylight.report.run_page import write_report
from tests.report.page_reader import Page


def test_settings_are_marked_where_they_were_typed(finished):
    page = Page(write_report(finished.run))
    assert page.row("model.image_size") == "model.image_size typed 32 –"
    assert page.row("model.dense") == "model.dense [16] []"
    assert not any(row.strip().startswith("trainer.max_epochs") and "typed" in row for row in page.rows)
