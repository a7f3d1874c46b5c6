"""The commands' help, which users read first."""

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
