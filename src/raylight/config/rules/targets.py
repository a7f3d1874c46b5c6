"""The allow-list: which code a config may name, so that a config from somebody else can't run arbitrary code.

A ``_target_`` node of a trusted package may only build an object of the kind that its setting needs (an optimizer, a
network, ...), since the same packages have functions that run commands or load pickles. Further packages are trusted by
``allowed_targets``, which only counts if the user gave it: on the command line, in the option files of this program, or in the
environment. The arguments of each node are bound to the signature that it calls.
"""

import inspect
import os
from collections.abc import Iterator, Mapping
from typing import Any

from omegaconf import Container, OmegaConf

from raylight.config.rules.metric_names import own_name_problem
from raylight.config.rules.nodes import (
    batch_nodes,
    class_count_parameter,
    find_target,
    logger_nodes,
    loss_node,
    network_node,
    parameters_of,
    unset_problems,
    word_problems,
)
from raylight.config.schema import RunConfig
from raylight.errors import ConfigError, did_you_mean
from raylight.process import set_variables

TRUSTED_PACKAGES = ("raylight", "torch", "torchvision", "torchmetrics", "pytorch_lightning")

ALLOWING = "RAYLIGHT_ALLOWED_TARGETS"
"""Environment variable with the further packages, separated by commas, that the user trusts."""

_KINDS = {
    "optimizer": "torch.optim.optimizer.Optimizer",
    "scheduler": "torch.optim.lr_scheduler.LRScheduler",
    "transform": "torch.nn.modules.module.Module",
    "batch transform": "torch.nn.modules.module.Module",
    "source": "a class with entries() and read(key)",
    "network": "torch.nn.modules.module.Module",
    "loss": "torch.nn.modules.module.Module",
    "metric": "torchmetrics.metric.Metric",
    "callback": "pytorch_lightning.callbacks.callback.Callback",
    "logger": "pytorch_lightning.loggers.logger.Logger",
}
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL")
_SHORTEST_SECRET = 8
"""Characters; a shorter value could be in a config by chance."""


def allow(packages: list[str]) -> None:
    """Trusts further packages in this process and those that it starts."""
    set_variables(**{ALLOWING: ",".join(dict.fromkeys([*_allowed(), *packages]))})


def target_problems(run: RunConfig) -> Iterator[str]:
    """Checks all ``_target_`` nodes of a config.

    Args:
        run: all settings.

    Yields:
        A sentence per problem.
    """
    unconfirmed = [package for package in run.allowed_targets if package not in _allowed()]
    if unconfirmed:
        yield (
            f"allowed_targets: this config itself allows {', '.join(unconfirmed)}; if you trust their code, confirm it with "
            f"allowed_targets=[{','.join(unconfirmed)}] or {ALLOWING}={','.join(unconfirmed)}"
        )
        return
    nodes: list[tuple[str, str, Any, tuple[Any, ...]]] = [("optimizer", "optimizer", run.optimizer, (None,))]
    if run.model._target_ is not None:
        nodes.append(("model", "network", network_node(run.model), ()))
    if run.loss._target_ is not None:
        nodes.append(("loss", "loss", loss_node(run.loss), ()))
    if run.data.source is not None:
        nodes.append(("data.source", "source", run.data.source, ()))
    if run.scheduler is not None:
        nodes.append(("scheduler", "scheduler", run.scheduler, (None,)))
    nodes += [
        (f"augment.transforms[{position}]", "transform", node, ())
        for position, node in enumerate(run.augment.transforms)
    ]
    nodes += [(f"callbacks[{position}]", "callback", node, ()) for position, node in enumerate(run.callbacks)]
    nodes += [(f"metrics.{name}", "metric", node, ()) for name, node in run.metrics.items()]
    yield from filter(None, map(own_name_problem, run.metrics))
    nodes += [(key, "logger", node, ()) for key, node in logger_nodes(run.logger)]
    nodes += [(key, "batch transform", node, ()) for key, node in batch_nodes(run.augment)]
    yield from (*word_problems(run), *unset_problems(run))
    for key, kind, node, leading in nodes:
        yield from _node_problems(key, kind, node, (*TRUSTED_PACKAGES, *run.allowed_targets), leading)


def check_node(key: str, kind: str, node: Mapping[str, Any]) -> None:
    """Checks that a node, which may come from the run folder of somebody else, may be built.

    Args:
        key: of the node, for messages.
        kind: of the object that it should build, such as ``network``.
        node: with ``_target_`` and the arguments, which may contain further nodes.

    Raises:
        ConfigError: it, or one within it, isn't trusted, is of another kind, or doesn't fit the signature.
    """
    problems = list(_node_problems(key, kind, node, (*TRUSTED_PACKAGES, *_allowed()), ()))
    if problems:
        raise ConfigError(problems)


def hydra_problems(section: Container, usual: Container) -> Iterator[str]:
    """Checks Hydra's own section, since its callbacks, launchers, log handlers and environment variables run code.

    Args:
        section: composed from a config that isn't Raylight's own.
        usual: composed from Raylight's own, with the same command line.

    Yields:
        A sentence per difference.
    """
    found, expected = _comparable_section(section), _comparable_section(usual)
    for key in sorted(found.keys() | expected.keys()):
        if found.get(key) != expected.get(key):
            yield f"hydra.{key}: can't be set by a config from elsewhere, since it could run code; give it on the command line"


def _comparable_section(section: Container) -> dict[str, Any]:
    """Hydra's section without its records of the command line and of the folders of configs."""
    values = OmegaConf.to_container(section, resolve=False)
    assert isinstance(values, dict)
    values["job"] = {
        name: value for name, value in values["job"].items() if name in ("chdir", "env_set", "env_copy", "config")
    }
    return {
        str(name): value for name, value in values.items() if name not in ("runtime", "overrides", "mode", "verbose")
    }


def secret_problem(key: str, value: Any) -> str | None:
    """Checks that a value isn't a secret of the environment, which all records of the run would contain.

    Args:
        key: of the setting.
        value: before interpolation, when a secret is recognised by its name, or after it, when by its content.

    Returns:
        A sentence, or ``None``.
    """
    if not isinstance(value, str):
        return None
    consequence = "and it would be written into the run folder, reports and W&B"
    for part in value.split("oc.env:")[1:]:
        name = part.split(",")[0].split("}")[0].strip()
        if _names_a_secret(name):
            return f"{key}: reads {name} from the environment, {consequence}"
    for name, content in os.environ.items():
        if _names_a_secret(name) and len(content) >= _SHORTEST_SECRET and content in value:
            return f"{key}: contains the value of {name} in the environment, {consequence}"
    return None


def _names_a_secret(variable: str) -> bool:
    return any(word in variable.upper() for word in _SECRET)


def is_trusted(target: str) -> bool:
    """Whether the package of a ``_target_`` is trusted in this process."""
    return target.split(".")[0] in (*TRUSTED_PACKAGES, *_allowed())


def is_source(callee: Any) -> bool:
    """Whether an object is a class of image sources (``raylight.data.packed.protocol``)."""
    return isinstance(callee, type) and hasattr(callee, "entries") and hasattr(callee, "read")


def _allowed() -> list[str]:
    return [name for name in os.environ.get(ALLOWING, "").split(",") if name]


def _node_problems(
    key: str, kind: str, node: Any, trusted: tuple[str, ...], leading: tuple[Any, ...], *, nested: bool = False
) -> Iterator[str]:
    """Checks a ``_target_`` node and those nested in its arguments."""
    if not isinstance(node, Mapping) or "_target_" not in node:
        yield f"{key}: needs a _target_, the dotted name of the class that builds it"
        return
    target = str(node["_target_"])
    package = target.split(".")[0]
    if package not in trusted:
        yield (
            f"{key}._target_: {target!r} is not from a trusted package ({', '.join(trusted)}); "
            f"if you trust its code, allow it with allowed_targets=[{package}] or {ALLOWING}={package}"
        )
        return
    try:
        callee = find_target(key, target)
    except ConfigError as error:
        yield from error.problems
        return
    if package in TRUSTED_PACKAGES and not _is_kind(callee, kind):
        yield f"{key}._target_: {target!r} isn't a class of the kind {kind} ({_KINDS[kind]}), and nothing else may be called"
        return
    arguments = {str(name): value for name, value in node.items() if not str(name).startswith("_")}
    positional = list(node.get("_args_", []))
    if kind in ("network", "loss", "metric", "batch transform") and not nested:
        key = f"{key}.arguments" if kind in ("network", "loss") else key
        if (counts := class_count_parameter(callee)) in arguments:
            yield f"{key}.{counts}: is the number of classes, which the data determines; leave it out"
        arguments = {**({counts: 2} if counts else {}), **arguments}
    if kind == "logger" and not nested and "save_dir" in parameters_of(callee):
        arguments = {"save_dir": "", **arguments}
    yield from _binding_problems(key, target, callee, (*leading, *positional), arguments)
    for name, value in (*arguments.items(), ("_args_", positional)):
        for inner_key, inner in _nested_nodes(f"{key}.{name}", value):
            yield from _node_problems(inner_key, kind, inner, trusted, (), nested=True)


def _is_kind(callee: Any, kind: str) -> bool:
    if kind == "source":
        return is_source(callee)
    bases = getattr(callee, "__mro__", ())
    return any(f"{base.__module__}.{base.__qualname__}" == _KINDS[kind] for base in bases)


def _binding_problems(
    key: str, target: str, callee: Any, leading: tuple[Any, ...], arguments: Mapping[str, Any]
) -> Iterator[str]:
    try:
        signature = inspect.signature(callee)
    except ValueError:
        return
    parameters = [name for name in signature.parameters if name not in ("self", "args", "kwargs")]
    open_ended = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    unknown = [name for name in arguments if name not in parameters and not open_ended]
    for name in unknown:
        yield f"{key}.{name}: {target} takes no such argument{did_you_mean(name, parameters)}"
    if not unknown:
        try:
            signature.bind(*leading, **arguments)
        except TypeError as error:
            yield f"{key}: {target}: {error}"


def _nested_nodes(key: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The nearest ``_target_`` nodes within an argument, at any depth."""
    if isinstance(value, Mapping):
        if "_target_" in value:
            yield key, value
            return
        for name, inner in value.items():
            yield from _nested_nodes(f"{key}.{name}", inner)
    elif isinstance(value, list | tuple):
        for position, inner in enumerate(value):
            yield from _nested_nodes(f"{key}[{position}]", inner)
