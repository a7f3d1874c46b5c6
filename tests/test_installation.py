"""The commands that messages name are those that work where the user stands."""

import re
import shlex
import sys
import tomllib
from pathlib import Path

import pytest

from raylight import installation
from raylight.installation import install_command
from tests.forked import ROOT


def test_a_projects_options_are_those_of_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert installation.project_options() is None
    (tmp_path / "conf").mkdir()
    assert installation.project_options() == tmp_path / "conf"
    monkeypatch.chdir(ROOT)
    assert installation.project_options() is None


def test_a_missing_part_is_installed_where_the_user_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    python, *words = shlex.split(install_command("export"))
    assert (python, words[:3]) == (sys.executable, ["-m", "pip", "install"])
    target, _, extra = words[-1].partition("[")
    assert (Path(target) / "pyproject.toml").is_file()
    assert extra == "export]"
    assert Path(words[words.index("-c") + 1]).is_file()
    monkeypatch.setattr(installation, "CHECKOUT", None)
    assert install_command("export") == "pip install 'raylight[export]'"


def test_all_messages_name_parts_that_there_are_by_that_command() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named = set()
    for file in (ROOT / "src").rglob("*.py"):
        text = file.read_text()
        assert file.name == "installation.py" or "raylight[" not in text, file
        named |= set(re.findall(r"install_command\([\"'](\w+)", text))
    assert named <= extras.keys()
    assert named == {
        "download",
        "export",
        "heic",
        "hub",
        "labels",
        "medical",
        "openvino",
        "slurm",
        "sweeper",
        "tensorboard",
        "timm",
    }
