"""The settings of probes: one config per network, on the same images.

A probe is a run with ``finetune=probe`` that isn't trained: its settings are composed and checked as a run's are.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from raylight.config import launch
from raylight.config.check import load_config
from raylight.config.command_line import arranged
from raylight.config.paths import with_absolute_paths
from raylight.config.quoting import quoted
from raylight.config.schema import RunConfig
from raylight.config.untyped import with_choices
from raylight.errors import ConfigError
from raylight.pipeline.probing.networks import Candidate

PROBE = ("finetune=probe", "finetune.requires_weights=false", "logger=none", "trainer.batch_size=1")
"""Defaults, which typed settings override; a batch size of 1 fits any number of images."""


def as_settings(words: Sequence[str]) -> list[str]:
    """Read arguments as settings; a folder of images becomes ``data.root=FOLDER``.

    Raises:
        ConfigError: a word is neither a setting nor a folder.
    """
    settings = []
    for word in words:
        if "=" not in word and not Path(word).expanduser().is_dir():
            raise ConfigError([f"{word}: there is no such folder; expected a folder of images, or SETTING=VALUE"])
        plain = re.fullmatch(r"[\w./~-]+", word, re.ASCII)
        settings.append(word if "=" in word else f"data.root={word if plain else quoted(word)}")
    return settings


def value_of(settings: Sequence[str], key: str) -> str | None:
    """The last value typed for a key; None without one."""
    found = [text.partition("=")[2] for text in settings if text.lstrip("+").partition("=")[0] == key]
    return found[-1].strip("'\"") if found else None


def without(settings: Sequence[str], *keys: str) -> list[str]:
    """The settings without those of some keys."""
    return [text for text in settings if text.lstrip("+").partition("=")[0] not in keys]


def composed(settings: Sequence[str]) -> DictConfig:
    """Compose and check a config as ``train.py`` does, with absolute paths.

    Raises:
        ConfigError: listing every problem.
    """
    config, *_ = launch.composed(with_choices(arranged([*settings]))[0])
    return with_absolute_paths(config, Path.cwd())


def probe_configs(settings: Sequence[str], candidates: Sequence[Candidate]) -> list[RunConfig]:
    """Compose the config of each network's probe.

    Args:
        settings: of the data and the input, without a model.
        candidates: the networks.

    Raises:
        ConfigError: listing every problem.
    """
    bases: dict[str, DictConfig] = {}
    found = []
    for one in candidates:
        if one.option not in bases:
            added = [f"model={one.option}", f"model.name={one.name}", "model.weights=null"]
            bases[one.option] = composed([*added, *PROBE, *settings])
        config = bases[one.option].copy()
        OmegaConf.update(config, "model.name", one.name)
        OmegaConf.update(config, "model.weights", one.weights)
        found.append(load_config(config))
    return found
