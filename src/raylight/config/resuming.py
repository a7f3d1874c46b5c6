"""Going on with a sweep: what ``resume=SWEEP_FOLDER`` on the command line means for Hydra.

Covers the command line alone: the sweep goes into its old folder, and repeats its own command when no other one is
given. Which of its jobs are finished already is seen by each job (``pipeline.run_job``).
"""

from pathlib import Path

from omegaconf import OmegaConf

from raylight.errors import ConfigError

COMMAND_FILE = "multirun.yaml"
"""Where a sweeper writes the command that it was given."""


def resumed_arguments(arguments: list[str]) -> list[str]:
    """Write ``resume=FOLDER`` out in Hydra's words.

    Args:
        arguments: what follows ``train.py``.

    Returns:
        The arguments for Hydra: ``-m``, the sweep's folder, and the sweep's own overrides where none are given. The
        same arguments where nothing is to be resumed.

    Raises:
        ConfigError: the folder isn't a sweep's.
    """
    from hydra._internal.utils import get_args_parser

    overrides = get_args_parser().parse_args(arguments).overrides
    asked = [text for text in overrides if text.lstrip("+").startswith("resume=")]
    value = asked[-1].partition("=")[2].strip("'\"") if asked else ""
    if value in ("", "null"):
        return arguments
    folder = Path(value).expanduser().resolve()
    if not (folder / COMMAND_FILE).is_file():
        raise ConfigError(
            [
                f"resume: {value!r} is not the folder of a sweep: it has no {COMMAND_FILE}. A sweep's folder is what "
                "python train.py -m prints last; a single run goes on with: raylight resume RUN"
            ]
        )
    kept = [argument for argument in arguments if argument not in asked]
    own = _command_of(folder) if len(asked) == len(overrides) else []
    multirun = [] if any(argument in ("-m", "--multirun") for argument in kept) else ["-m"]
    return [*multirun, *kept, *own, f"resume={_quoted(folder)}", f"hydra.sweep.dir={_quoted(folder)}"]


def _command_of(folder: Path) -> list[str]:
    """The overrides that a sweep was started with."""
    recorded = OmegaConf.load(folder / COMMAND_FILE)
    given = OmegaConf.to_container(OmegaConf.select(recorded, "hydra.overrides"), resolve=False)
    assert isinstance(given, dict)
    ours = ("hydra.mode=", "hydra.sweep.dir=", "resume=")
    return [text for text in (*given["hydra"], *given["task"]) if not text.startswith(ours)]


def _quoted(path: Path) -> str:
    """A path in Hydra's override grammar, whatever characters it has."""
    return "'" + str(path).replace("\\", "\\\\").replace("'", "\\'") + "'"
