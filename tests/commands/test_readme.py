"""What the README tells people to type is understood, and what it names is there."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from raylight.cli import app
from raylight.config.launch import checked_arguments, register_schema
from raylight.errors import ConfigError
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text()
COMMANDS = [
    line.split("  #")[0].split(" #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("python train.py") and "--cfg" not in c])
def test_each_training_command_is_a_good_config(command: str, tmp_path: Path) -> None:
    """With a folder for PATH; data sets that aren't here are the only complaint allowed."""
    register_schema()
    try:
        arguments = shlex.split(command.replace("PATH", str(tmp_path)))[2:]
        if "data=xray" in arguments:
            arguments.append(f"data.root={tmp_path}")
        checked_arguments(ROOT / "conf", arguments)
    except ConfigError as error:
        pytest.fail(str(error))


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.startswith("raylight ")])
def test_each_command_exists_and_lists_its_exit_codes(command: str) -> None:
    result = CliRunner().invoke(app, [command.split()[1], "--help"])
    assert result.exit_code == 0
    assert "Exit codes:" in result.output


def test_each_make_target_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`?make ([a-z-]+)", README)) <= targets


def test_the_map_of_the_house_is_true() -> None:
    rooms = re.findall(r"^  (\w+)/ ", README, re.MULTILINE)
    assert len(rooms) == 7
    assert all((ROOT / "src" / "raylight" / room).is_dir() for room in rooms)


def test_it_stays_short() -> None:
    assert len(README.splitlines()) < 200
