"""Reading the command line as Hydra would, but with an error message where Hydra has a traceback.

Flags may be anywhere. If Hydra's grammar can't read a value, it is treated as plain text in all further checks, and the
message names the quoted form.
"""

import re
import shlex
from typing import Any

from raylight.config.quoting import quoted
from raylight.errors import ConfigError, did_you_mean, first_line
from raylight.installation import TRAIN

_EXCLUSIVE = ("run", "multirun", "cfg", "info", "shell_completion")
"""Flags of which Hydra takes only one."""


def arranged(arguments: list[str]) -> list[str]:
    """Moves the flags of a command to its beginning, where Hydra's parser expects them, and adds the options that it implies.

    Args:
        arguments: what follows ``train.py``.

    Returns:
        The arguments; with ``model=own`` (``loss=own``) where a class is named but no model (loss).

    Raises:
        ConfigError: there is no such flag, a flag's value is missing or wrong, or two exclude each other.
    """
    from hydra._internal.utils import get_args_parser

    parser = get_args_parser()
    flags = [flag for action in parser._actions for flag in action.option_strings]

    def refuse(message: str) -> Any:
        raise ConfigError([f"{message} ({TRAIN} --help lists all flags)"])

    parser.error = refuse  # type: ignore[method-assign]
    parsed, left = parser.parse_known_args(arguments)
    for unknown in left:
        if unknown.startswith("-"):
            name = unknown.partition("=")[0]
            guess = did_you_mean(name, flags) or f" ({TRAIN} --help lists all flags)"
            raise ConfigError([f"{name}: there is no such flag{guess}"])
    exclusive = [f"--{name}" for name in _EXCLUSIVE if getattr(parsed, name)]
    if len(exclusive) > 1:
        raise ConfigError([f"{exclusive[0]}: can't be combined with {exclusive[1]}; choose one"])
    overrides = [*parsed.overrides, *left]
    flags = [argument for argument in arguments if argument not in overrides]
    if any(flag.startswith(("--config-", "-cp", "-cn")) for flag in flags):
        return [*flags, *overrides]
    keys = {text.partition("=")[0].lstrip("+") for text in overrides}
    own = [f"{group}=own" for group in ("model", "loss") if f"{group}._target_" in keys and group not in keys]
    return [*flags, *overrides, *own]


def read_override(text: str, *, multirun: bool) -> tuple[Any, str | None]:
    """Reads one override of the command line.

    Args:
        text: such as ``model=cnn2``.
        multirun: whether several values may be given, to sweep over.

    Returns:
        Hydra's ``Override``, or a similar one if the text can't be read, or ``None`` if there is none; and the problem of the
        text, or ``None``.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    parser = OverridesParser.create()
    try:
        override = parser.parse_override(text)
    except HydraException as error:
        key, equals, value = text.partition("=")
        if not equals:
            return None, f"{text}: isn't a setting; write NAME=VALUE (model=cnn2)"
        as_text = f"{key}={quoted(value)}"
        try:
            override = parser.parse_override(as_text)
        except HydraException:
            return None, f"{text}: can't be read ({first_line(error)})"
        return override, f"{key}: {value!r} has characters with a meaning in Hydra; quote it: {_in_shell(as_text)}"
    if override.is_sweep_override() and not multirun:
        key, _, value = text.partition("=")
        single = parser.parse_override(f"{key}={quoted(value)}")
        return single, (
            f"{key}: {value} gives several values; sweep over them with -m ({TRAIN} -m {text}), or, if it is a single one, "
            f"quote it: {_in_shell(f'{key}={quoted(value)}')}"
        )
    return override, None


def shell_setting(key: str, value: str) -> str:
    """Formats a setting for a shell, with quotes where Hydra or the shell needs them.

    Args:
        key: of the setting.
        value: any text.

    Returns:
        ``key=value``.

    Example:
        >>> print(shell_setting("data.root", "my photos"), shell_setting("data.root", "photos"))
        "data.root='my photos'" data.root=photos
    """
    return f"{key}={value}" if re.fullmatch(r"[\w./:-]+", value, re.ASCII) else _in_shell(f"{key}={quoted(value)}")


def _in_shell(text: str) -> str:
    return f'"{text}"' if not set(text) & set('"$`\\!') else shlex.quote(text)
