"""Resuming a run or a sweep: what ``run=RUN_FOLDER`` and ``resume=SWEEP_FOLDER`` mean for Hydra.

Only the command line is changed here: a run is resumed in its folder with its own settings; a sweep in its old folder, with its
own command if no other one is given. The same command into the same folder resumes a sweep, too. Each job finds out whether it
is already finished (``pipeline.job.run_job``). Reads the settings of a run from its folder, too.
"""

import re
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from raylight.config.quoting import quoted
from raylight.config.schema import RunConfig
from raylight.errors import ConfigError, RunError, first_line
from raylight.installation import TRAIN

COMMAND_FILE = "multirun.yaml"
"""The file in which a sweep records its command."""
STATUS_FILE = "status.json"
"""A file that every run folder has."""
_PLAIN = re.compile(
    r"hydra/(launcher|sweeper)"
    r"|hydra\.sweeper\.(direction|max_batch_size|n_\w+|params[\w.]*|prune\w*|seed|storage|study_name)"
    r"|hydra\.launcher\.(account|array_parallelism|constraint|cpus_per_task|gpus_per_\w+|gres|mem\w*|n_jobs|nodes|partition"
    r"|qos|tasks_per_node|timeout_min)"
)
"""The settings of Hydra that a recorded command may contain: plain values, none of which is code or a shell command."""


def resumed_arguments(arguments: list[str]) -> list[str]:
    """Translates ``run=FOLDER`` or ``resume=FOLDER`` to Hydra's settings.

    Args:
        arguments: what follows ``train.py``.

    Returns:
        The arguments for Hydra: for a run, its folder; for a sweep, ``-m``, its folder, and its own overrides if none are
        given. The same arguments if nothing is to be resumed.

    Raises:
        ConfigError: the folder isn't that of a run or sweep, or there are other settings beside ``run``.
    """
    from hydra._internal.utils import get_args_parser

    parsed = get_args_parser().parse_args(arguments)
    overrides = parsed.overrides
    _, run = _asked("run", overrides)
    if run:
        return _run_resumed(run, arguments)
    asked, value = _asked("resume", overrides)
    if not value:
        return [*arguments, *_started_again(overrides)] if parsed.multirun else arguments
    folder = Path(value).expanduser().resolve()
    if not (folder / COMMAND_FILE).is_file():
        raise ConfigError(
            [
                f"resume: {value!r} is not the folder of a sweep: it has no {COMMAND_FILE}. The folder of a sweep is what "
                f"{TRAIN} -m prints last; a single run is resumed with run=RUN"
            ]
        )
    kept = [argument for argument in arguments if argument not in asked]
    own = _command_of(folder) if len(asked) == len(overrides) else []
    multirun = [] if any(argument in ("-m", "--multirun") for argument in kept) else ["-m"]
    return [*multirun, *kept, *own, f"resume={quoted(str(folder))}", f"hydra.sweep.dir={quoted(str(folder))}"]


def start_of(arguments: list[str]) -> Path | None:
    """Finds the folder in which a resumed sweep was started, to which the paths in its command are relative.

    Args:
        arguments: what follows ``train.py``.

    Returns:
        The folder; ``None`` if no recorded command is repeated, or if the folder doesn't exist any more.
    """
    overrides = [text for text in arguments if not text.startswith("-")]
    asked, value = _asked("resume", overrides)
    command = Path(value).expanduser() / COMMAND_FILE
    if not value or len(asked) != len(overrides) or not command.is_file():
        return None
    recorded = OmegaConf.select(OmegaConf.load(command), "hydra.runtime.cwd")
    return Path(recorded) if recorded and Path(recorded).is_dir() else None


def _asked(setting: str, overrides: list[str]) -> tuple[list[str], str]:
    """The overrides of a setting, and the value of the last one; empty if there is none."""
    asked = [text for text in overrides if text.lstrip("+").startswith(f"{setting}=")]
    value = asked[-1].partition("=")[2].strip("'\"") if asked else ""
    return asked, "" if value == "null" else value


def _started_again(overrides: list[str]) -> list[str]:
    """``resume=`` for a sweep that is started again in its own folder; a search continues by means of its study."""
    _, value = _asked("hydra.sweep.dir", overrides)
    folder = Path(value).expanduser().resolve()
    searches = any(text.startswith("hydra/sweeper=") for text in overrides)
    return [f"resume={quoted(str(folder))}"] if value and not searches and (folder / COMMAND_FILE).is_file() else []


def _run_resumed(value: str, arguments: list[str]) -> list[str]:
    folder = Path(value).expanduser().resolve()
    if len(arguments) > 1:
        raise ConfigError(
            [
                "run: resumes a run with its own settings, so no others can be given; for more epochs: "
                "raylight resume RUN trainer.max_epochs=N"
            ]
        )
    if not (folder / STATUS_FILE).is_file():
        raise ConfigError(
            [f"run: {value!r} is not a run folder: it has no {STATUS_FILE}. RUN is what training prints last"]
        )
    return [f"run={quoted(str(folder))}", f"hydra.run.dir={quoted(str(folder))}"]


def _command_of(folder: Path) -> list[str]:
    """The overrides that a sweep was started with."""
    recorded = OmegaConf.load(folder / COMMAND_FILE)
    given = OmegaConf.to_container(OmegaConf.select(recorded, "hydra.overrides"), resolve=False)
    assert isinstance(given, dict)
    ours = ("hydra.mode=", "hydra.sweep.dir=", "resume=")
    command = [text for text in (*given["hydra"], *given["task"]) if not text.startswith(ours)]
    if unsafe := [text for text in command if _could_run_code(text)]:
        raise ConfigError(
            [
                f"resume: the command recorded in {folder / COMMAND_FILE} has {text}, which could run code; if the sweep is "
                "yours, give its whole command again beside resume="
                for text in unsafe
            ]
        )
    return command


def _could_run_code(override: str) -> bool:
    """Whether a recorded override could run code, which a folder from somebody else must not do."""
    key = override.lstrip("+~").partition("=")[0]
    if key.startswith("hydra"):
        return "${" in override or not _PLAIN.fullmatch(key)
    return key.startswith("allowed_targets")


def saved_config(file: Path) -> RunConfig:
    """Reads the settings of a run; files that they name needn't exist any more.

    Args:
        file: ``config.yaml`` in the run folder.

    Returns:
        The settings, unchecked.

    Raises:
        RunError: it can't be read, or has settings that this version doesn't know.
    """
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(file)))
    except (OSError, YAMLError, OmegaConfBaseException, ValueError) as error:
        raise RunError(f"{file} can't be read as the settings of a run: {first_line(error)}") from error
    assert isinstance(config, RunConfig)
    return config
