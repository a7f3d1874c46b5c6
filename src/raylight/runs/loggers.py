"""Loggers beside W&B: TensorBoard, any of Lightning's, a user's own; several at once.

Each gets the metrics of each epoch, the config, and at the end the result with its intervals. An error of a logger is
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
    """Opens the loggers of a job except W&B; they are closed at the end, with the result if there is one.

    Args:
        config: names the loggers.
        run: loggers with a ``save_dir`` write to its folder, unless the config gives another.
        settings: the resolved config, which they log.

    Yields:
        Loggers for Lightning's trainer.

    Raises:
        ConfigError: a logger can't be built.
    """
    loggers = build_loggers(config, run.path)
    for logger in loggers:
        logger.log_metrics = _without_errors(logger, "the metrics of some epochs", logger.log_metrics)
        _without_errors(logger, "the config", logger.log_hyperparams)(dict(settings))
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
            _without_errors(logger, "the end of the run", logger.finalize)(status)


def build_loggers(config: LoggerConfig, folder: Path) -> list[Any]:
    """Builds the loggers of a config except W&B.

    Args:
        config: names the loggers; its nodes are already checked.
        folder: the ``save_dir`` of loggers that have one, unless the config gives another.

    Returns:
        Loggers for Lightning's trainer.

    Raises:
        ConfigError: a logger can't be built, or isn't one of Lightning.
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
                remedy = f"{key}: tensorboard isn't installed; install it with: {install_command('tensorboard')}"
                raise ConfigError([remedy]) from error
            raise
        if not isinstance(logger, Logger):
            raise ConfigError(
                [f"{key}: {target} returned a {type(logger).__name__}; expected a pytorch_lightning.loggers.Logger"]
            )
        built.append(logger)
    return built


def check_loggers(config: LoggerConfig) -> None:
    """Builds the loggers once, in a temporary folder.

    Args:
        config: names the loggers.

    Raises:
        ConfigError: a logger can't be built, or isn't one of Lightning.
    """
    with tempfile.TemporaryDirectory() as folder:
        build_loggers(config, Path(folder))


def _without_errors(logger: Any, content: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The same function, but its first error is logged and none is raised."""
    logged = False

    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal logged
        try:
            return function(*arguments, **named)
        except Exception as error:  # a logger's backend may fail in any way
            if not logged:
                kind = type(logger).__name__
                log.error("%s didn't log %s (%s); the run folder has everything.", kind, content, first_line(error))
            logged = True
            return None

    return call


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The values of ``metrics.json``, such as ``test/accuracy``, and their intervals, ``test/accuracy_low`` and ``_high``."""
    return {
        name + suffix: float(bound)
        for name, estimate in metrics.items()
        if isinstance(estimate, Mapping) and {"value", "low", "high"} <= estimate.keys()
        for suffix, bound in (("", estimate["value"]), ("_low", estimate["low"]), ("_high", estimate["high"]))
        if bound is not None
    }
