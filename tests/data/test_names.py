"""Names of files, classes and splits."""

import os

import pytest

from raylight.data.names import (
    SPLITS,
    describe_classes,
    is_image,
    is_utf8,
    normalized_name,
    printable,
    quoted,
    single_line,
)


@pytest.mark.parametrize(
    ("name", "image"), [("a.JPG", True), ("b.tiff", True), ("c.heic", True), ("d.mp4", False), ("jpg", False)]
)
def test_an_image_is_known_by_its_suffix(name: str, image: bool) -> None:
    assert is_image(name) is image


def test_every_usual_spelling_of_a_split_is_known() -> None:
    assert [SPLITS[name] for name in ("training", "dev", "valid", "testing", "test_set")] == [
        "train", "val", "val", "test", "test"
    ]  # fmt: skip


def test_bytes_that_are_not_utf8_are_shown_escaped() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    assert not is_utf8(name)
    assert printable(name) == r"caf\xe9.jpg"
    assert is_utf8("café.jpg")
    assert single_line("a\x1b[31m\n\u202eb") == r"a\x1b[31m\n\u202eb"


def test_one_name_in_two_unicode_forms_and_cases_is_one_name() -> None:
    assert normalized_name("Cafe\u0301") == normalized_name("CAF\u00c9")
    assert normalized_name("STRASSE") == normalized_name("straße")


def test_lists_of_names_are_sorted_and_cut() -> None:
    assert describe_classes([]) == "no classes"
    assert describe_classes(["b"]) == "1 class (b)"
    assert describe_classes("gfedcba") == "7 classes (a, b, c, d, e, f, ... (7 in all))"
    assert quoted({"b", "a'c"}) == "\"a'c\", 'b'"
