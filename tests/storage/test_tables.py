"""Tables as CSV."""

import csv
import io
import math

from raylight.storage.tables import csv_text


def test_what_is_missing_is_empty_and_columns_keep_their_order() -> None:
    rows = [{"path": 'a,"b"\n.png', "value": math.nan}, {"path": "ä\rb", "other": 0.5, "value": None}]
    text = csv_text(rows)
    assert text.startswith("path,value,other\n")
    assert list(csv.DictReader(io.StringIO(text, newline=""))) == [
        {"path": 'a,"b"\n.png', "value": "", "other": ""},
        {"path": "ä\rb", "value": "", "other": "0.5"},
    ]


def test_a_table_without_rows_has_the_columns_that_were_asked_for() -> None:
    assert csv_text([], ("path", "reason")) == "path,reason\n"
    assert csv_text([]) == ""
    assert csv_text([{"b": 1, "a": 2}], ("a",)) == "a,b\n2,1\n"
