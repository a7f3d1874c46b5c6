"""What every message is made with: the nearest name, the first line of a library's error."""

import doctest
import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from raylight import errors
from raylight.errors import install_command
from tests.forked import ROOT


@pytest.mark.parametrize(
    ("text", "line"),
    [("", "KeyError"), ("\n  a shape mismatch\n    for w: [2]", "a shape mismatch"), ("one line", "one line")],
)
def test_of_a_librarys_error_one_line_is_told(text: str, line: str) -> None:
    class KeyError(Exception): ...  # noqa: A001 - whose text isn't quoted, as the built-in one's is

    assert errors.first_line(KeyError(text)) == line


def test_examples() -> None:
    assert doctest.testmod(errors) == (0, 1)
    assert errors.did_you_mean("modle", ["data", "model"]) == "; did you mean 'model'?"
    assert errors.did_you_mean("modle", ["data"]) == ""


def test_a_missing_part_is_installed_where_the_user_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    python, *words = shlex.split(install_command("export"))
    assert (python, words[:3]) == (sys.executable, ["-m", "pip", "install"])
    target, _, extra = words[-1].partition("[")
    assert (Path(target) / "pyproject.toml").is_file()
    assert extra == "export]"
    assert Path(words[words.index("-c") + 1]).is_file()
    # Among installed packages there is no pyproject.toml two folders up.
    monkeypatch.setattr(errors, "__file__", str(tmp_path / "lib" / "raylight" / "errors.py"))
    assert install_command("export") == "pip install 'raylight[export]'"


def test_all_messages_name_parts_that_there_are_by_that_command() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set()
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text()
        assert file.name == "errors.py" or "raylight[" not in text, file
        named |= set(re.findall(r"install_command\([\"'](\w+)", text))
    assert named <= extras.keys()
    assert named == {"download", "export", "labels", "slurm", "sweeper"}
