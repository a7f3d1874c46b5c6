"""What every message is made with: the nearest name, the first line of a library's error."""

import pytest

from raylight import errors


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "KeyError"), ("\n  a shape mismatch\n    for w: [2]", "a shape mismatch"), ("one line", "one line")],
)
def test_of_a_librarys_error_one_line_is_told(text: str, line: str) -> None:
    class KeyError(Exception): ...  # noqa: A001 - whose text isn't quoted, as the built-in one's is

    assert errors.first_line(KeyError(text)) == line


def test_the_nearest_name_is_proposed() -> None:
    assert errors.did_you_mean("modle", ["data", "model"]) == "; did you mean 'model'?"
    assert errors.did_you_mean("modle", ["data"]) == ""
