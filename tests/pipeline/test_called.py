"""What goes wrong in a call is raised with the command's text; the run folder says it, too."""

import json
from pathlib import Path

import pytest

import raylight
from raylight.errors import ConfigError, DataError, RunError
from tests.test_api import SMALL
from tests.trained_run import draw


def test_what_is_wrong_is_raised_with_the_commands_text(tmp_path: Path,
                                                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"trainer\.max_epoch: there is no such setting; did you mean 'trainer\.max_epochs'"
    ):
        raylight.train("modle=resnet18", "trainer.max_epoch=3")
    with pytest.raises(ConfigError, match="-m: a call takes settings only; a sweep is a loop over calls"):
        raylight.train("-m", "seed=1,2")
    with pytest.raises(DataError, match="images of one class only, 'left'"):
        raylight.train(f"data.root={_one(tmp_path)}", *SMALL)
    with pytest.raises(RunError, match="no-run"):
        raylight.load(tmp_path / "no-run")
    (failed,) = (tmp_path / "outputs").glob("*/*")
    assert json.loads((failed / "status.json").read_text())["exit_code"] == 2
    with pytest.raises(RunError, match=r"metrics\.json"):
        _ = raylight.load(failed).metrics
    with pytest.raises(RunError, match=r"report.html isn't there: the run was made with report.enabled=false"):
        _ = raylight.load(failed).report


def _one(folder: Path) -> Path:
    draw(folder / "single", "left", 4, 1)
    return folder / "single"
