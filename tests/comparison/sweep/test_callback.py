"""What happens when a multirun ends: the table is printed and written, and the exit code tells of failed jobs."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raylight.comparison.sweep.callback import SweepTableCallback
from tests.comparison.jobs import job


def end(sweep: Path) -> None:
    SweepTableCallback().on_multirun_end(OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}}}))


def test_the_table_is_written_and_the_folder_printed_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (0, 1):
        job(tmp_path, number, f"seed={number}")
    end(tmp_path)
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(tmp_path)
    assert any("0.900 ± 0.000" in line for line in lines)
    assert {path.suffix for path in tmp_path.glob("comparison.*")} == {".csv", ".md", ".tex", ".html"}


def test_a_job_without_a_result_is_told_and_makes_the_sweep_fail(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        end(sweep)
    assert ended.value.code == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "model=cnn5 seed=3: failed: <b>a|b</b>: too small c: too large" in said
    assert said.endswith(str(sweep))


def test_a_table_that_cannot_be_drawn_ends_with_1_and_its_reason(sweep: Path, caplog: pytest.LogCaptureFixture) -> None:
    (sweep / "comparison.html").mkdir()
    with pytest.raises(SystemExit) as ended:
        end(sweep)
    assert ended.value.code == 1
    assert "The sweep's table can't be written." in caplog.text
