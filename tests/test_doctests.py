"""The examples in docstrings give the values that they show."""

import doctest
import importlib
from pathlib import Path

import pytest

import raylight

SOURCE = Path(raylight.__file__).parent
MODULES = sorted(
    ".".join(("raylight", *file.relative_to(SOURCE).with_suffix("").parts))
    for file in SOURCE.rglob("*.py")
    if ">>> " in file.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert tried > 0
    assert failed == 0
