"""A command line as ``train.py`` checks it."""

from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig

from raylight.config.check import load_config
from raylight.config.command_line import arranged
from raylight.config.launch import checked_arguments, register_schema
from raylight.config.untyped import with_choices
from raylight.errors import ConfigError
from tests.forked import ROOT


def problems(*overrides: str, rehearse: Callable[..., Any] | None = None) -> list[str]:
    """What is wrong with it; ``rehearse`` also builds what the config names."""
    register_schema()
    try:
        typed, _ = with_choices(arranged(list(overrides)))
        checked_arguments(ROOT / "conf", typed, *([rehearse] if rehearse else []))
    except ConfigError as error:
        return list(error.problems)
    return []


def config_problems(config: DictConfig, *, weights_needed: bool = True) -> list[str]:
    """Problems of a composed config, or of one read from a file."""
    try:
        load_config(config, weights_needed=weights_needed)
    except ConfigError as error:
        return list(error.problems)
    return []
