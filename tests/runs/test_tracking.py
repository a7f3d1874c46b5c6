"""W&B, offline and real: what it can't be told, and what it would cut off."""

import http.server
import json
import logging
import socket
import threading
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import psutil
import pytest
import wandb

from raylight.config.schema import LoggerConfig
from raylight.errors import ConfigError
from raylight.runs.tracking import check_tracking, tracking


def service() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if "wandb" in process.name()]


def test_a_service_that_dies_is_told_of_once_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    wandb.teardown()
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    with tracking(LoggerConfig(), tmp_path, {}, ["demo"]) as tracker:
        logger = tracker.lightning_logger()
        logger.log_metrics({"val/loss": 1.0}, 0)
        assert not caplog.records
        for process in service():
            process.kill()
            process.wait(10)
        for step in range(1, 30):
            logger.log_metrics({"val/loss": 1.0}, step)
        tracker.summary({"test/accuracy": 1.0})
        tracker.artifact("model", None, [tmp_path / "best.ckpt"], ["best"], {})
    told = [record.getMessage() for record in caplog.records]
    assert sum("some epochs' metrics" in text for text in told) == 1
    assert any("W&B wasn't told that the run has ended" in text for text in told)
    with pytest.raises(ConnectionError):
        wandb.teardown()


def test_a_confusion_matrix_of_many_classes_is_whole(tmp_path: Path) -> None:
    """W&B keeps 200,000 rows of a table; 500 classes have 250,000 pairs."""
    rng = np.random.default_rng(0)
    labels, names = np.r_[rng.integers(0, 500, 2000), 499], [f"c{i}" for i in range(500)]
    predicted = np.where(rng.random(2001) < 0.5, labels, rng.integers(0, 500, 2001))
    with tracking(LoggerConfig(), tmp_path, {}, []) as tracker:
        tracker.curves(labels, predicted, np.full((2001, 500), 1 / 500), names)
    (file,) = tmp_path.glob("wandb/offline-run-*/files/media/table/test/confusion_matrix_table*.json")
    table = json.loads(file.read_text())
    counts = np.zeros((500, 500), int)
    np.add.at(counts, (labels, predicted), 1)
    assert {(true, given): n for true, given, n in table["data"]} == {
        (names[i], names[j]): counts[i, j] for i, j in zip(*counts.nonzero(), strict=True)
    }


def test_environment_variables_that_wandb_refuses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "nonsense")
    with pytest.raises(ConfigError, match="WANDB_BASE_URL: refused by W&B"):
        check_tracking(LoggerConfig())
    check_tracking(LoggerConfig(name="csv"))
    monkeypatch.delenv("WANDB_BASE_URL")
    check_tracking(LoggerConfig())


def test_a_server_that_does_not_answer_is_named_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that nothing listens on; what answers at all, if only with an error, is left to W&B itself."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # answers 501
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_MODE", "online")
    try:
        for url, said in (
            (f"http://127.0.0.1:{port}", "can't be reached"),
            (f"http://127.0.0.1:{server.server_port}", ""),
        ):
            wandb.teardown()
            monkeypatch.setenv("WANDB_BASE_URL", url)
            with (
                pytest.raises(ConfigError, match=f"logger.mode: online, but W&B's server {url} {said}")
                if said
                else nullcontext()
            ):
                check_tracking(LoggerConfig())
    finally:
        server.shutdown()
        server.server_close()
        monkeypatch.setenv("WANDB_MODE", "offline")
        wandb.teardown()
