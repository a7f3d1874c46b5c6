"""Going on with a run or a sweep: what ``run=RUN_FOLDER`` and ``resume=SWEEP_FOLDER`` mean for Hydra.

Covers the command line alone: a run goes on in its folder with its own settings; a sweep goes into its old folder, and
repeats its own command when no other one is given. The same command into the same folder goes on as well. Which of its
jobs are finished already is seen by each job (``pipeline.job.run_job``).
Reads the settings of any run back from its folder, too.
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
"""Where a sweeper writes the command that it was given."""
STATUS_FILE = "status.json"
"""What every run folder has."""
_PLAIN = re.compile(
    r"hydra/(launcher|sweeper)"
    r"|hydra\.sweeper\.(direction|max_batch_size|n_\w+|params[\w.]*|prune\w*|seed|storage|study_name)"
    r"|hydra\.launcher\.(account|array_parallelism|constraint|cpus_per_task|gpus_per_\w+|gres|mem\w*|n_jobs|nodes|partition"
    r"|qos|tasks_per_node|timeout_min)"
)
"""What a recorded command may tell Hydra: plain values, none of which is code or a shell's command."""


def resumed_arguments(arguments: list[str]) -> list[str]:
    """Write ``run=FOLDER`` or ``resume=FOLDER`` out in Hydra's words.

    Args:
        arguments: what follows ``train.py``.

    Returns:
        The arguments for Hydra: for a run its folder; for a sweep ``-m``, its folder, and its own overrides where none
        are given. The same arguments where nothing is to be resumed.

    Raises:
        ConfigError: the folder isn't a run's or a sweep's, or a run's isn't alone on the command line.
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
                f"resume: {value!r} is not the folder of a sweep: it has no {COMMAND_FILE}. A sweep's folder is what "
                f"{TRAIN} -m prints last; a single run goes on with run=RUN"
            ]
        )
    kept = [argument for argument in arguments if argument not in asked]
    own = _command_of(folder) if len(asked) == len(overrides) else []
    multirun = [] if any(argument in ("-m", "--multirun") for argument in kept) else ["-m"]
    return [*multirun, *kept, *own, f"resume={quoted(str(folder))}", f"hydra.sweep.dir={quoted(str(folder))}"]


def start_of(arguments: list[str]) -> Path | None:
    """The folder in which the sweep was started whose own command is to be repeated: what its relative paths are relative to.

    Args:
        arguments: what follows ``train.py``.

    Returns:
        None where no sweep's own command is repeated, or the folder isn't there any more.
    """
    overrides = [text for text in arguments if not text.startswith("-")]
    asked, value = _asked("resume", overrides)
    command = Path(value).expanduser() / COMMAND_FILE
    if not value or len(asked) != len(overrides) or not command.is_file():
        return None
    recorded = OmegaConf.select(OmegaConf.load(command), "hydra.runtime.cwd")
    return Path(recorded) if recorded and Path(recorded).is_dir() else None


def _asked(setting: str, overrides: list[str]) -> tuple[list[str], str]:
    """The overrides of a setting, and the value of the last one; empty where that is nothing."""
    asked = [text for text in overrides if text.lstrip("+").startswith(f"{setting}=")]
    value = asked[-1].partition("=")[2].strip("'\"") if asked else ""
    return asked, "" if value == "null" else value


def _started_again(overrides: list[str]) -> list[str]:
    """``resume=`` for a sweep that is started once more into its own folder; a search goes on by its own study."""
    _, value = _asked("hydra.sweep.dir", overrides)
    folder = Path(value).expanduser().resolve()
    searches = any(text.startswith("hydra/sweeper=") for text in overrides)
    return [f"resume={quoted(str(folder))}"] if value and not searches and (folder / COMMAND_FILE).is_file() else []


def _run_resumed(value: str, arguments: list[str]) -> list[str]:
    folder = Path(value).expanduser().resolve()
    if len(arguments) > 1:
        raise ConfigError(
            [
                "run: goes on with a run as it was begun, so nothing can be set beside it; more epochs: "
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
    if acting := [text for text in command if _acts(text)]:
        raise ConfigError(
            [
                f"resume: the command recorded in {folder / COMMAND_FILE} holds {text}, which could run code; if the "
                "sweep is yours, give its whole command once more beside resume="
                for text in acting
            ]
        )
    return command


def _acts(override: str) -> bool:
    """Whether a recorded override could run code, which somebody else's folder mustn't: a folder isn't a command line."""
    key = override.lstrip("+~").partition("=")[0]
    if key.startswith("hydra"):
        return "${" in override or not _PLAIN.fullmatch(key)
    return key.startswith("allowed_targets")


def saved_config(file: Path) -> RunConfig:
    """The typed settings in a run's ``config.yaml``; what they point to needn't exist any more.

    Args:
        file: the ``config.yaml``.

    Raises:
        RunError: it can't be read, or has settings that this version doesn't know.
    """
    try:
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(RunConfig), OmegaConf.load(file)))
    except (OSError, YAMLError, OmegaConfBaseException, ValueError) as error:
        raise RunError(f"{file} can't be read as the settings of a run: {first_line(error)}") from error
    assert isinstance(config, RunConfig)
    return config
