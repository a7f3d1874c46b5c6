"""Training called from Python: the command's composing, checking and stages; errors are raised."""

import sys
from collections.abc import Sequence
from pathlib import Path

from raylight.config.command_line import arranged
from raylight.config.launch import composed
from raylight.config.paths import with_absolute_paths
from raylight.config.untyped import with_choices
from raylight.errors import ConfigError, RunError
from raylight.installation import TRAIN, join_project
from raylight.process import random_numbers, shorten_waits


def train_here(settings: Sequence[str], *, progress: bool | None) -> Path:
    """Train in this process.

    Args:
        settings: such as ``model=resnet18``.
        progress: show bars and messages; None does in a notebook.

    Returns:
        The run folder.

    Raises:
        ConfigError: a setting is wrong; all problems are listed.
        RaylightError: the data, the weights or the training can't be used.
        KeyboardInterrupt: the run was interrupted; ``raylight resume`` continues it.
    """
    flags = [text for text in settings if text.startswith("-")]
    if flags:
        raise ConfigError([f"{flags[0]}: a call takes settings only; a sweep is a loop over calls, or {TRAIN} -m ..."])
    shorten_waits()
    with random_numbers():
        return _trained(settings, progress)


def _trained(settings: Sequence[str], progress: bool | None) -> Path:
    from raylight.pipeline.costs import Costs
    from raylight.pipeline.job import run_here
    from raylight.pipeline.rehearsal import rehearsal_problems
    from raylight.runs.console import in_notebook, messages_on
    from raylight.runs.signals import Stopped

    join_project()
    shown = in_notebook() if progress is None else progress
    costs = Costs()
    typed, notes = with_choices(arranged([*settings]))
    if not shown and not any(text.startswith("trainer.progress=") for text in typed):
        typed.append("trainer.progress=off")
    config, folder, checked = composed(typed, rehearsal_problems)
    costs.lap("launch")
    with messages_on(sys.stdout if shown else None):
        for sentence in notes if shown else ():
            sys.stdout.write(f"{sentence}\n")
        outcome = run_here(with_absolute_paths(config, Path.cwd()), folder, checked, costs)
    if isinstance(outcome.error, Stopped):
        raise KeyboardInterrupt(outcome.error.reason) from outcome.error
    if outcome.error is not None:
        raise outcome.error
    if outcome.exit_code:
        raise RunError(f"{outcome.run} wasn't finished: see its train.log.")
    return outcome.run
