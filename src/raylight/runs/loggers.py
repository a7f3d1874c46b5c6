"""Loggers beside W&B: TensorBoard, any of Lightning's, a user's own; several at once.

Each gets every epoch's metrics, the config, and the result with its intervals at the end. A logger's error is
logged and doesn't fail the run, whose folder holds everything. W&B has a module of its own (``tracking``).
"""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from raylight.config.rules.nodes import build_node, find_target, logger_nodes, parameters_of
from raylight.config.schema import LoggerConfig
from raylight.errors import ConfigError, first_line
from raylight.installation import install_command
from raylight.runs.run_dir import RunDir

log = logging.getLogger(__name__)


@contextlib.contextmanager
def other_loggers(config: LoggerConfig, run: RunDir, settings: Mapping[str, Any]) -> Iterator[list[Any]]:
    """The loggers of a job but W&B's, for Lightning's trainer; closed on the way out, with the result where there is one.

    Args:
        config: which.
        run: those with a ``save_dir`` write here, unless told otherwise.
        settings: the resolved config.

    Raises:
        ConfigError: one can't be built.
    """
    loggers = build_loggers(config, run.path)
    for logger in loggers:
        logger.log_metrics = _forgiving(logger, "some epochs' metrics", logger.log_metrics)
        _forgiving(logger, "the config", logger.log_hyperparams)(dict(settings))
    status = "failed"
    try:
        yield loggers
        status = "success"
        if loggers and (run / "metrics.json").is_file():
            result = _numbers(run.read_json("metrics.json"))
            for logger in loggers:
                logger.log_metrics(result)
    finally:
        for logger in loggers:
            _forgiving(logger, "that the run has ended", logger.finalize)(status)


def build_loggers(config: LoggerConfig, folder: Path) -> list[Any]:
    """The loggers of a config but W&B's.

    Args:
        config: its nodes are checked.
        folder: that they write into, where they have a ``save_dir`` and the config doesn't give one.

    Raises:
        ConfigError: one can't be built, or is no logger of Lightning.
    """
    from pytorch_lightning.loggers import Logger

    built = []
    for key, node in logger_nodes(config):
        target = str(node["_target_"])
        takes_folder = "save_dir" in parameters_of(find_target(key, target)) and "save_dir" not in node
        try:
            logger = build_node(key, node, **({"save_dir": str(folder)} if takes_folder else {}))
        except ConfigError as error:
            if "ModuleNotFoundError" in str(error) and target.endswith(".TensorBoardLogger"):
                remedy = f"{key}: tensorboard isn't installed; bring it with: {install_command('tensorboard')}"
                raise ConfigError([remedy]) from error
            raise
        if not isinstance(logger, Logger):
            raise ConfigError(
                [f"{key}: {target} made a {type(logger).__name__}; expected a pytorch_lightning.loggers.Logger"]
            )
        built.append(logger)
    return built


def check_loggers(config: LoggerConfig) -> None:
    """Build them once, in a folder that is thrown away.

    Raises:
        ConfigError: as ``build_loggers``.
    """
    with tempfile.TemporaryDirectory() as folder:
        build_loggers(config, Path(folder))


def _forgiving(logger: Any, what: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, whose errors are logged, once."""
    told: list[str] = []

    def call(*arguments: Any, **named: Any) -> Any:
        try:
            return work(*arguments, **named)
        except Exception as error:  # a logger's backend may fail in any way
            if not told:
                kind = type(logger).__name__
                log.error("%s wasn't told %s (%s); the run folder holds it all.", kind, what, first_line(error))
            told.append(what)
            return None

    return call


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """``test/accuracy``, and its interval as ``test/accuracy_low`` and ``_high``."""
    return {
        name + suffix: float(bound)
        for name, estimate in metrics.items()
        if isinstance(estimate, Mapping) and {"value", "low", "high"} <= estimate.keys()
        for suffix, bound in (("", estimate["value"]), ("_low", estimate["low"]), ("_high", estimate["high"]))
        if bound is not None
    }
