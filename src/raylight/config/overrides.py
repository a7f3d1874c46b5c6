"""Checking the overrides of a command line, and listing the configs of a sweep."""

from collections.abc import Iterator
from typing import Any

from raylight.config.check import known_keys, value_problem
from raylight.errors import did_you_mean
from raylight.installation import install_command


def all_groups(loader: Any, parent: str = "") -> Iterator[str]:
    """Lists the groups of option files.

    Args:
        loader: Hydra's loader of option files.
        parent: only list groups below this one; without it, all but those below ``hydra``.

    Yields:
        Names such as ``model``, at any depth.
    """
    from hydra.core.object_type import ObjectType

    for name in loader.repository.get_group_options(parent, results_filter=ObjectType.GROUP):
        group = f"{parent}/{name}" if parent else name
        if group != "hydra":
            yield group
            yield from all_groups(loader, group)


def override_problems(override: Any, loader: Any, groups: set[str]) -> Iterator[str]:
    """Finds the problems of one override.

    Args:
        override: parsed by Hydra.
        loader: Hydra's loader of option files.
        groups: the names of all groups.

    Yields:
        A sentence per problem, with the nearest valid name.
    """
    key = override.key_or_group
    if key.split(".")[0].split("/")[0] == "hydra" and "/" not in key:
        return
    group = key.split("@")[0]
    if group in groups and not override.is_delete():
        options = loader.repository.get_group_options(group)
        if override.is_sweep_override() and not override.is_interval_sweep() and not values_of(override):
            yield f"{override.input_line}: matches none of the options, which are {', '.join(options)}"
        for value in values_of(override):
            if value is not None and str(value) not in options:
                guess = did_you_mean(str(value), options) or f"; the options are {', '.join(options)}"
                if key == "hydra/launcher" and str(value).startswith("submitit_"):
                    guess = f" without Hydra's submitit launcher: {install_command('slurm')}"
                yield f"{key}: there is no option {value!r}{guess}"
        return
    if "/" in key:
        yield f"{key}: there is no such group{did_you_mean(key, sorted(groups))}"
        return
    if override.is_delete():
        return
    for value in values_of(override):
        problem = value_problem(key, value)
        if problem and key not in known_keys():
            problem = f"{key}: there is no such setting{did_you_mean(key, [*sorted(groups), *known_keys()])}"
        if problem:
            yield problem
            if key not in known_keys():
                return


def values_of(override: Any) -> list[Any]:
    """The values of an override; none for a sweep over an interval."""
    if not override.is_sweep_override():
        return [override.value()]
    return [] if override.is_interval_sweep() else list(override.sweep_iterator())


def compositions(overrides: list[Any], rewritten: dict[str, str]) -> Iterator[list[str]]:
    """Lists the configs of a sweep to compose and check, without all combinations of values.

    Args:
        overrides: parsed by Hydra.
        rewritten: replacements of overrides, by their text.

    Yields:
        Overrides: first with the first value of each, then with each further value of a sweep by itself.
    """
    choices: list[list[str]] = []
    for override in overrides:
        text = rewritten.get(override.input_line, override.input_line)
        if not override.is_sweep_override():
            choices.append([text])
        elif not override.is_interval_sweep():
            plus = "++" if text.startswith("++") else ""
            choices.append([f"{plus}{override.key_or_group}={value}" for value in override.sweep_string_iterator()])
    first = [alternatives[0] for alternatives in choices]
    yield first
    for position, alternatives in enumerate(choices):
        for alternative in alternatives[1:]:
            yield [*first[:position], alternative, *first[position + 1 :]]
