"""The commands that there are, and what is said to other words."""

import re

import pytest
from typer.testing import CliRunner

from raylight.cli import app


@pytest.mark.parametrize(
    ("command", "argument"),
    [
        ("compare", "  RUN... | SWEEP  Run folders, or a sweep's folder.  [required]"),
        ("predict", "  IMAGE...  Image files, or folders of them.  [required]"),
        ("audit", "  [data.SETTING=VALUE]...  Such as data.root=PATH."),
    ],
)
def test_arguments_are_told_without_types_of_python(command: str, argument: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"]).output
    assert argument in told
    assert "list[" not in told


COMMANDS = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_its_exit_codes(command: str) -> None:
    told = CliRunner().invoke(app, [command, "--help"])
    assert told.exit_code == 0
    assert re.search(r"Exit codes?:", told.output)


def test_the_help_lists_every_command() -> None:
    told = CliRunner().invoke(app, ["--help"]).output
    assert len(COMMANDS) >= 8
    assert all(re.search(rf"\b{command}\b", told) for command in COMMANDS)


@pytest.mark.parametrize("words", [["trian"], ["predict"], ["evaluate", "--nonsense"]])
def test_what_is_no_command_ends_with_2(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2
