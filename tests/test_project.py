"""What a project of a user's is given."""

import json
from pathlib import Path

from typer.testing import CliRunner

from raylight.cli import app
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
