"""What a project of a user's is given."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft7Validator
from omegaconf import OmegaConf
from typer.testing import CliRunner

from raylight.cli import app
from raylight.errors import ConfigError
from raylight.project import FILES, init_project
from tests.forked import ROOT


def test_the_schema_is_printed_or_written(tmp_path: Path) -> None:
    shipped = (ROOT / "conf" / "schema.json").read_text()
    assert CliRunner().invoke(app, ["schema"]).output == shipped
    file = tmp_path / "conf" / "schema.json"
    written = CliRunner().invoke(app, ["schema", "--out", str(file)])
    assert (written.exit_code, written.output) == (0, "")
    assert json.loads(file.read_text()) == json.loads(shipped)
    refused = CliRunner().invoke(app, ["schema", "--out", str(tmp_path)])
    assert refused.exit_code == 2
    assert "is a folder; name a file" in refused.output


def test_a_new_projects_files_are_whole(tmp_path: Path) -> None:
    assert init_project(tmp_path / "new") == 0
    for file in (tmp_path / "new").rglob("*.yaml"):
        assert "# yaml-language-server: $schema=../schema.json\n" in file.read_text()
        config = OmegaConf.to_container(OmegaConf.load(file))
        schema = json.loads((file.parent / "../schema.json").read_text())
        assert [*Draft7Validator(schema).iter_errors(config)] == []
    assert len(FILES["README.md"].splitlines()) < 30


def test_nothing_is_overwritten_and_the_checkout_is_no_project(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine")
    with pytest.raises(ConfigError, match=r"has \.gitignore, which would be overwritten; name another place"):
        init_project(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".gitignore"]
    with pytest.raises(ConfigError, match="is Raylight's own; name another place"):
        init_project(ROOT)
