"""Loggers beside W&B: all get the config, the epochs and the result; one that fails stops nothing."""

import csv
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger

from raylight.config.schema import LoggerConfig
from raylight.errors import ConfigError
from raylight.runs.loggers import check_loggers, other_loggers
from raylight.runs.run_dir import RunDir

CSV = {"_target_": "pytorch_lightning.loggers.CSVLogger", "name": "mine", "version": ""}


class Fails(CSVLogger):
    """Its backend is gone."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        raise OSError("no answer")


def built(*also: Any) -> LoggerConfig:
    return LoggerConfig(name="csv", also=list(also))


def test_each_gets_the_config_the_epochs_and_the_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    run = RunDir.claim(tmp_path / "run")
    failing = {**CSV, "_target_": f"{__name__}.Fails", "name": "gone"}
    with other_loggers(built(failing, CSV), run, {"seed": 3}) as loggers:
        for epoch in range(3):
            for logger in loggers:
                logger.log_metrics({"val/loss": 1.0 - epoch / 10}, epoch)
        accuracy = {"value": 0.75, "low": 0.5, "high": 0.9, "n": 20}
        run.write_json("metrics.json", {"test/accuracy": accuracy, "test/auroc": {**accuracy, "value": None}, "n": 3})
    rows = list(csv.DictReader((run / "mine" / "metrics.csv").open()))
    assert [row["val/loss"] for row in rows[:3]] == ["1.0", "0.9", "0.8"]
    assert [rows[-1][f"test/accuracy{part}"] for part in ("", "_low", "_high")] == ["0.75", "0.5", "0.9"]
    assert "test/auroc" not in rows[-1]
    assert "seed: 3" in (run / "mine" / "hparams.yaml").read_text()
    assert caplog.text.count("Fails didn't log the metrics of some epochs (no answer)") == 1


def test_a_failed_job_has_no_result_and_ends_as_failed(tmp_path: Path) -> None:
    run, ended = RunDir.claim(tmp_path / "run"), []
    run.write_json("metrics.json", {"test/accuracy": {"value": 1.0, "low": 0.5, "high": 1.0}})  # of an earlier start

    def job() -> None:
        with other_loggers(built(CSV), run, {}) as (logger,):
            logger.finalize = lambda status: ended.append((status, logger.experiment.metrics))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        job()
    assert ended == [("failed", [])]


def test_a_folder_that_is_given_is_kept(tmp_path: Path) -> None:
    with other_loggers(built({**CSV, "save_dir": str(tmp_path)}), RunDir.claim(tmp_path / "run"), {}) as (logger,):
        assert logger.save_dir == str(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            built({"_target_": "builtins.dict"}),
            r"logger.also\[0\]: builtins.dict returned a dict; expected a pytorch_lightning",
        ),
        (built({**CSV, "flush_logs_every_n_steps": 5, "nme": 1}), r"logger.also\[0\]: .*CSVLogger: TypeError"),
    ],
)
def test_what_is_no_logger_is_refused_before_work(config: LoggerConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_loggers(config)


def test_tensorboard_writes_its_events_or_says_what_brings_it(tmp_path: Path) -> None:
    import importlib.util

    config, run = LoggerConfig(name="tensorboard"), RunDir.claim(tmp_path / "run")
    if importlib.util.find_spec("tensorboard") or importlib.util.find_spec("tensorboardX"):
        with other_loggers(config, run, {"seed": 3}) as (logger,):
            logger.log_metrics({"val/loss": 0.5}, 1)
        assert list((run / "tensorboard").glob("events.*"))
        return
    with pytest.raises(
        ConfigError, match=r"logger.name: tensorboard isn't installed; install it with: .*\[tensorboard\]"
    ):
        check_loggers(config)
