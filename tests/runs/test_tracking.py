"""W&B, offline and real: what it can't be told, and what it lacks to be used, which is named before any work."""

import http.server
import logging
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest
import wandb

from raylight.config.schema import LoggerConfig
from raylight.errors import ConfigError
from raylight.runs.tracking import check_tracking, tracking


def service() -> list[psutil.Process]:
    return [process for process in psutil.Process().children(recursive=True) if "wandb" in process.name()]


def test_a_service_that_dies_is_told_of_once_and_fails_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.delitem(sys.modules, "wandb.sdk.launch", raising=False)  # of tests before
    wandb.teardown()
    (tmp_path / "best.ckpt").write_bytes(b"weights")
    with tracking(LoggerConfig(), tmp_path, {}, ["demo"]) as tracker:
        logger = tracker.lightning_logger()
        logger.log_metrics({"val/loss": 1.0}, 0)
        assert not caplog.records
        assert "wandb.sdk.launch" not in sys.modules  # a second of imports
        for process in service():
            process.kill()
            process.wait(10)
        for step in range(1, 30):
            logger.log_metrics({"val/loss": 1.0}, step)
        tracker.summary({"test/accuracy": 1.0})
        tracker.artifact("model", None, [tmp_path / "best.ckpt"], ["best"], {})
    told = [record.getMessage() for record in caplog.records]
    assert sum("the metrics of some epochs" in text for text in told) == 1
    assert any("W&B didn't receive the end of the run" in text for text in told)
    with pytest.raises(ConnectionError):
        wandb.teardown()


def test_environment_variables_that_wandb_refuses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_BASE_URL", "nonsense")
    with pytest.raises(ConfigError, match="WANDB_BASE_URL: refused by W&B"):
        check_tracking(LoggerConfig())
    check_tracking(LoggerConfig(name="csv"))
    monkeypatch.delenv("WANDB_BASE_URL")
    check_tracking(LoggerConfig())


def test_a_server_that_does_not_answer_or_let_us_in_is_named_before_any_work(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A port that nothing listens on; and what answers, but isn't W&B or has no account for us."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)  # answers 501
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    try:
        for url, problem in (
            (f"http://127.0.0.1:{port}", "W&B's server URL can't be reached"),
            (
                f"http://127.0.0.1:{server.server_port}",
                r"the login to W&B's server URL fails \(.*wandb login, or with WANDB_API_KEY; or keep",
            ),
        ):
            wandb.teardown()
            monkeypatch.setenv("WANDB_BASE_URL", url)
            for key in ("", "0" * 40):
                monkeypatch.setenv("WANDB_API_KEY", key)
                with pytest.raises(ConfigError, match=f"logger.mode: online, but {problem.replace('URL', url, 1)}"):
                    check_tracking(LoggerConfig())
    finally:
        server.shutdown()
        server.server_close()
        monkeypatch.setenv("WANDB_MODE", "offline")
        wandb.teardown()


def test_an_offline_run_sends_nothing(tmp_path: Path) -> None:
    """Not even W&B's telemetry, which follows the settings of the process instead of the run's."""
    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

    run = """
from pathlib import Path
from raylight.config.schema import LoggerConfig
from raylight.runs.tracking import tracking

with tracking(LoggerConfig(), Path.cwd(), {}, []) as tracker:
    tracker.lightning_logger().log_metrics({"val/loss": 1.0}, 0)
"""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environment = os.environ | {"WANDB_BASE_URL": f"http://127.0.0.1:{server.server_port}"}
        environment.pop("WANDB_MODE", None)
        subprocess.run([sys.executable, "-c", run], cwd=tmp_path, env=environment, check=True)
        server.shutdown()
    assert list(tmp_path.glob("wandb/offline-run-*/*.wandb"))
    assert not asked
