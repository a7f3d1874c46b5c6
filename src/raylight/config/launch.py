"""From a command line to checked jobs: what ``train.py`` does.

Hydra composes the config; before that, all overrides are checked against the schema, so that all mistakes are listed at once.
Each job of a multirun reports how it ended instead of raising, so that the others go on.
"""

import contextlib
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from raylight.config.check import inside_free_node, known_keys, load_config
from raylight.config.command_line import arranged, read_override
from raylight.config.overrides import all_groups, compositions, override_problems
from raylight.config.paths import with_absolute_paths
from raylight.config.resume import resumed_arguments, start_of
from raylight.config.rules.names import folder_name
from raylight.config.rules.targets import allow, hydra_problems
from raylight.config.schema import RunConfig
from raylight.config.untyped import with_choices
from raylight.errors import ConfigError, first_line
from raylight.imports import few_collections, postpone_imports
from raylight.installation import OPTION_FILES, TRAIN
from raylight.process import ensure_home, set_variables, shorten_waits

Rehearsal = Callable[[RunConfig], Sequence[str]]
"""Finds the problems of a config that only show when its objects are built."""


def main(conf_dir: Path, run_job: Callable[[DictConfig], Any], rehearse: Rehearsal) -> int:
    """Runs ``train.py``: checks the command line, then passes it to Hydra.

    Args:
        conf_dir: folder of the option files.
        run_job: runs one composed config; its result has an ``exit_code`` and an ``objective``.
        rehearse: finds the problems of a config that only show when its objects are built.

    Returns:
        The exit code: 0 finished, 1 failed, 2 bad config or data, 130 interrupted, 143 terminated. For a multirun, 1
        if any job failed.
    """
    try:
        with few_collections():
            from hydra._internal.utils import get_args_parser

            ensure_home()
            shorten_waits()
            postpone_imports()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # until the job sets its own handler
            register_schema()
            sys.argv[1:], sentences = with_choices(arranged(sys.argv[1:]))
            for sentence in sentences:
                print(sentence, file=sys.stderr)  # noqa: T201 - Hydra writes to standard output
            arguments = get_args_parser().parse_args()
            _absolute_config_path(arguments.config_path)
            start = Path.cwd()
            if _runs_jobs(arguments):
                start = start_of(sys.argv[1:]) or start
                resumed = resumed_arguments(sys.argv[1:])
                with contextlib.chdir(start):
                    sys.argv[1:] = checked_arguments(conf_dir, resumed, rehearse)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the answer to a user's mistake
        return error.exit_code
    with contextlib.chdir(start), help_quickly() if arguments.help else contextlib.nullcontext():
        return _launched(conf_dir, run_job, start)


@contextlib.contextmanager
def help_quickly() -> Iterator[None]:
    """Makes Hydra list its groups from one copy of all options: 1.3 copies them per group, most of the time of ``--help``.

    Garbage is collected rarely: there is hardly any.
    """
    from hydra._internal.config_loader_impl import ConfigLoaderImpl

    loaders: Any = ConfigLoaderImpl
    copied = loaders._parse_overrides_and_create_caching_repo
    made: dict[tuple[str | None, ...], Any] = {}

    def once(loader: Any, config_name: str | None, overrides: list[str]) -> Any:
        key = (config_name, *overrides)
        if key not in made:
            made[key] = copied(loader, config_name, overrides)
        return made[key]

    loaders._parse_overrides_and_create_caching_repo = once
    try:
        with few_collections():
            yield
    finally:
        loaders._parse_overrides_and_create_caching_repo = copied


def _launched(conf_dir: Path, run_job: Callable[[DictConfig], Any], start: Path) -> int:
    """Passes the checked command line to Hydra; paths in it are relative to ``start``."""
    import hydra
    from hydra.errors import HydraException

    exit_codes: list[int] = []

    def job(config: DictConfig) -> float | None:
        outcome = run_job(with_absolute_paths(config, start))
        exit_codes.append(outcome.exit_code)
        objective: float | None = outcome.objective
        return objective

    # Errors of a job are in its run folder; Hydra's own are caught here instead of printed.
    set_variables(HYDRA_FULL_ERROR=os.environ.get("HYDRA_FULL_ERROR", "1"))
    try:
        hydra.main(version_base="1.3", config_path=str(conf_dir), config_name="train")(job)()
    except OSError as error:
        path = f"{error.filename}: " if error.filename else ""
        print(  # noqa: T201 - the answer to a user's mistake
            f"The run folder can't be made ({path}{error.strerror}). Work in another folder, or choose one with "
            "hydra.run.dir=PATH (a sweep: hydra.sweep.dir=PATH).",
            file=sys.stderr,
        )
        return 1
    except HydraException as error:
        print(ConfigError([_plain(error)]), file=sys.stderr)  # noqa: T201 - the answer to a user's mistake
        return ConfigError.exit_code
    except KeyboardInterrupt:  # before the job handles signals itself
        return 130
    except SystemExit as end:
        # The exit code of a sweep covers jobs in other processes, too; an interrupted job ends the sweep early.
        return int(end.code or 0)
    return exit_codes[0] if len(exit_codes) == 1 else int(any(exit_codes))


@functools.cache
def register_schema() -> None:
    """Registers the schema and Raylight's settings of Hydra, once."""
    from hydra.conf import HydraConf, RunDir, SweepDir
    from hydra.core.config_store import ConfigStore

    OmegaConf.register_new_resolver("raylight.unique", lambda: os.urandom(3).hex(), use_cache=True, replace=True)
    OmegaConf.register_new_resolver("raylight.class", lambda name: str(name or "own").rpartition(".")[2], replace=True)
    store = ConfigStore.instance()
    store.store(name="schema", node=RunConfig, provider="raylight")
    OmegaConf.register_new_resolver("raylight.folder", folder_name, replace=True)
    stamp = "${now:%Y-%m-%d_%H-%M-%S}-${raylight.unique:}"
    settings = HydraConf(
        run=RunDir(f"outputs/${{raylight.folder:'${{data.name}}-${{model.name}}'}}/{stamp}"),
        sweep=SweepDir(
            dir=f"outputs/sweeps/{stamp}", subdir="${raylight.folder:'${hydra.job.num}-${data.name}-${model.name}'}"
        ),
        output_subdir=None,
    )
    settings.defaults = [
        {next(iter(entry)): "none"} if "job_logging" in entry or "hydra_logging" in entry else entry
        for entry in settings.defaults
    ]
    settings.job.chdir = False
    settings.callbacks = {"sweep_table": {"_target_": "raylight.comparison.sweep.callback.SweepTableCallback"}}
    settings.help.app_name = "Raylight"
    settings.help.header = f"Raylight trains and compares image classifiers: {TRAIN} [SETTING=VALUE ...]"
    settings.help.template = HELP
    store.store(group="hydra", name="config", node=settings, provider="raylight")


HELP = f"""${{hydra.help.header}}

Choose an option per group, then change single settings; -m sweeps over comma-separated values:
  {TRAIN} model=resnet18 data=xray data.root=PATH
  {TRAIN} -m model=cnn2,cnn5 seed=1,2
  {TRAIN} experiment=NAME            a published system or a study

Options:
$APP_CONFIG_GROUPS

Show the whole config with --cfg job, one section with --cfg job --package model.
Exit codes: 0 finished, 1 failed, 2 bad config or data, 130 interrupted, 143 terminated.

${{hydra.help.footer}}
"""


def completions(conf_dir: Path, incomplete: str) -> list[str]:
    """Completes a setting on the command line, for the shell.

    Args:
        conf_dir: folder of the option files.
        incomplete: the word so far, such as ``model=re``.

    Returns:
        Possible words.
    """
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra

    register_schema()
    with initialize_config_dir(str(conf_dir), version_base="1.3"):
        return BashCompletion(GlobalHydra.instance().config_loader())._query(config_name="train", line=incomplete)


def checked_arguments(conf_dir: Path, arguments: list[str], rehearse: Rehearsal = lambda _: ()) -> list[str]:
    """Checks a command line against the option files, the schema and the objects that it names.

    Args:
        conf_dir: folder of the option files.
        arguments: what follows ``train.py``.
        rehearse: finds the problems of a config that only show when its objects are built.

    Returns:
        The arguments, with ``key=value`` instead of ``+key=value`` for settings that exist, and ``++key=value`` for arguments
        of ``_target_`` nodes.

    Raises:
        ConfigError: with all problems.
    """
    from hydra import compose, initialize_config_dir
    from hydra._internal.utils import get_args_parser
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.types import Override
    from hydra.errors import HydraException

    parsed = get_args_parser().parse_args(arguments)
    config_dir = str(Path(parsed.config_path).resolve()) if parsed.config_path else str(conf_dir)
    config_name = parsed.config_name or "train"
    own_config = config_dir == str(conf_dir)
    hydra_sections: list[DictConfig] = []
    problems: list[str] = []
    accepted: list[Override] = []
    rewritten: dict[str, str] = {}
    with initialize_config_dir(config_dir, version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        groups = set(all_groups(loader))
        for text in parsed.overrides:
            override, problem = read_override(text, multirun=parsed.multirun)
            problems += [problem] if problem else []
            if override is None or (problem and override.key_or_group in groups):
                continue
            override.config_loader = loader  # for globs
            found = list(override_problems(override, loader, groups))
            if found:  # Hydra's own groups are many and rarely meant
                groups |= {"hydra", *all_groups(loader, "hydra")}
                found = list(override_problems(override, loader, groups))
            problems += found
            if not found:
                accepted.append(override)
                if override.is_add() and override.key_or_group in known_keys():
                    rewritten[text] = text.lstrip("+")
                elif inside_free_node(override.key_or_group) and not override.is_delete():
                    # An argument that the class takes needn't be in the option file.
                    rewritten[text] = "++" + text.lstrip("+")
        if not Path(config_dir, f"{config_name}.yaml").is_file():
            raise ConfigError([f"--config-name: there is no {config_name}.yaml in {config_dir}"])
        for overrides in compositions(accepted, rewritten):
            try:
                config = compose(config_name, overrides=overrides, return_hydra_config=True)
            except HydraException as error:
                problems.append(_plain(error))
                continue
            with open_dict(config):
                hydra_section = config.pop("hydra")
            if any(override.key_or_group == "allowed_targets" for override in accepted) or own_config:
                allow(list(config.get("allowed_targets", [])))
            hydra_sections.append(hydra_section)
            try:
                found = list(rehearse(load_config(config)))
            except ConfigError as error:
                found = list(error.problems)
            problems += [problem for problem in found if problem not in problems]
    if hydra_sections and not own_config:
        asked = [str(override.input_line) for override in accepted if override.key_or_group.startswith("hydra")]
        with initialize_config_dir(str(conf_dir), version_base="1.3"):
            usual = compose("train", overrides=asked, return_hydra_config=True).hydra
        problems += hydra_problems(hydra_sections[0], usual)
    if problems:
        raise ConfigError(problems)
    return [rewritten.get(text, text) for text in arguments]


def composed(arguments: list[str], rehearse: Rehearsal = lambda _: ()) -> tuple[DictConfig, Path, list[str]]:
    """Checks and composes a command line outside of ``train.py``.

    Args:
        arguments: what would follow ``train.py``.
        rehearse: finds the problems of a config that only show when its objects are built.

    Returns:
        The config, the folder of its run, and the checked arguments.

    Raises:
        ConfigError: with all problems.
    """
    from hydra import compose, initialize_config_dir

    register_schema()
    checked = checked_arguments(OPTION_FILES, arguments, rehearse)
    with initialize_config_dir(str(OPTION_FILES), version_base="1.3"):
        config = compose("train", overrides=checked, return_hydra_config=True)
        folder = Path(config.hydra.run.dir).absolute()
    with open_dict(config):
        del config["hydra"]
    return config, folder, checked


def _runs_jobs(arguments: Any) -> bool:
    shows = (arguments.help, arguments.hydra_help, arguments.cfg, arguments.info, arguments.shell_completion)
    return not any(shows)


def _absolute_config_path(config_path: str | None) -> None:
    """Makes ``--config-path``, which is relative to the working directory, absolute; Hydra would look beside the code."""
    if config_path is None or not Path(config_path).is_dir():
        return
    absolute = str(Path(config_path).resolve())
    sys.argv = [
        absolute
        if argument == config_path
        else argument.replace(f"={config_path}", f"={absolute}")
        if argument.startswith(("--config-path=", "-cp="))
        else argument
        for argument in sys.argv
    ]


def _plain(error: Exception) -> str:
    """The message of Hydra's error in one line, with its cause, which names the key."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    cause = error.__cause__
    if cause is not None:
        lines.append(first_line(cause))
    return ": ".join(dict.fromkeys(lines))
