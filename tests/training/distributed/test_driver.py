"""What training processes tell is put where it belongs."""

import logging
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger

from raylight.errors import DataError
from raylight.runs.run_dir import RunDir
from raylight.training.distributed.driver import Driver
from raylight.training.messages import Ended, File, FinishedTraining, LogLine, Metrics


def test_files_lines_and_metrics_arrive(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run, logger = RunDir.claim(tmp_path / "run"), CSVLogger(tmp_path, "", "")
    driver = Driver(run, [logger])
    with caplog.at_level(logging.INFO, "raylight.somewhere"):
        driver.receive(LogLine("raylight.somewhere", logging.INFO, "100 % of it"))
    assert caplog.messages == ["100 % of it"]
    driver.receive(Metrics({"val/loss": 0.5}, 3))
    logger.save()
    assert (tmp_path / "metrics.csv").read_text().splitlines() == ["step,val/loss", "3,0.5"]
    driver.receive(File("checkpoints/last.ckpt", b"state"))
    assert (run / "checkpoints" / "last.ckpt").read_bytes() == b"state"


def test_the_result_names_the_checkpoint_in_the_drivers_own_folder(tmp_path: Path) -> None:
    driver: Any = Driver(RunDir.claim(tmp_path / "run"), [])
    there = FinishedTraining(Path("/on/another/node/best.ckpt"), 1, "val/loss", 0.5, 3, 9.0, 0.1)
    driver.receive(Ended())  # of a process that isn't the first
    assert driver.finished is None
    driver.receive(Ended(there))
    assert driver.finished.best_checkpoint == tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert (driver.finished.best_epoch, driver.finished.monitor_value) == (1, 0.5)


def test_what_ended_training_is_raised_here(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it went wrong"):
        Driver(RunDir.claim(tmp_path / "run"), []).receive(Ended(error=DataError("it went wrong")))
