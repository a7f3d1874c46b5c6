"""More epochs for a run: the settings after ``raylight resume RUN trainer.max_epochs=N``.

Finished epochs are kept, and the others are trained as in a run of N epochs from the start. Where finished epochs would have
been different there (a schedule over all epochs, phases given as shares), the log says so.
"""

from collections.abc import Sequence
from dataclasses import replace

from omegaconf import OmegaConf

from raylight.config.check import load_config, value_problem
from raylight.config.rules.recipe import planned_epochs, recipe_of, with_length
from raylight.config.schema import RunConfig
from raylight.errors import ConfigError
from raylight.installation import TRAIN

EPOCHS = "trainer.max_epochs"


def asked_epochs(settings: Sequence[str]) -> int | None:
    """Read the number of epochs from the settings; None without one.

    Args:
        settings: what was typed after the run folder.

    Raises:
        ConfigError: another setting, or no number.
    """
    asked, problems = None, []
    for text in settings:
        key, equals, value = text.lstrip("+").partition("=")
        if not equals:
            problems.append(f"{text}: is no setting; write {EPOCHS}=N")
        elif key != EPOCHS:
            problems.append(
                f"{key}: a run continues with its own settings; only {EPOCHS} may change. For another run: "
                f"{TRAIN} --config-path RUN --config-name config {text}"
            )
        elif not value.strip().isdigit():
            problems.append(f"{key}: {value!r} is not a whole number")
        elif problem := value_problem(key, value):
            problems.append(problem)
        else:
            asked = int(value)
    if problems:
        raise ConfigError(problems)
    return asked


def extended(config: RunConfig, epochs: int, done: int, *, finished: bool) -> tuple[RunConfig, list[str]]:
    """Change the number of epochs of a run.

    Args:
        config: its settings so far.
        epochs: in all.
        done: epochs that it has been trained for.
        finished: whether its training had ended.

    Returns:
        The settings, checked, and notes for the log.

    Raises:
        ConfigError: that many epochs are done already, training has stopped early, or the phases leave no room.
    """
    planned = planned_epochs(config)
    if epochs < done:
        raise ConfigError([f"{EPOCHS}: {epochs}, but {done} epochs are done already; ask for more"])
    if finished and done < planned:
        raise ConfigError(
            [
                f"{EPOCHS}: training stopped early, after epoch {done} of {planned} (trainer.patience, trainer.max_minutes, "
                f"or a search's pruning), and would have with {epochs} epochs, too. For another run: {TRAIN} --config-path RUN "
                f"--config-name config trainer.patience=null trainer.max_minutes=null {EPOCHS}={epochs}"
            ]
        )
    notes = [f"{EPOCHS}: {planned} before, {epochs} now; {done} are done."]
    recipe, finetune = recipe_of(config), config.finetune
    shared = any(phase.share is not None for phase in (*finetune.phases, *finetune.without_weights))
    if done and shared and len(recipe.phases) > 1:
        finetune = replace(recipe, without_weights=[])
        notes.append(
            "Phases given as a share of all epochs keep their length, unlike in a run of so many epochs from the start."
        )
    if finetune.phases[-1].epochs is not None:
        finetune = replace(finetune, phases=[*finetune.phases[:-1], replace(finetune.phases[-1], epochs=None)])
    changed = replace(
        config,
        trainer=replace(config.trainer, max_epochs=epochs),
        finetune=finetune,
        scheduler=with_length(config.scheduler, planned, epochs),
    )
    return load_config(OmegaConf.structured(changed), weights_needed=not done), notes
