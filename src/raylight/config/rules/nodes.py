"""Finding the class or function of a ``_target_`` node, reading its signature, and building it.

An error names the key of the node. ``targets`` checks the package of a node before it is imported here.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from raylight.config.schema import AugmentConfig, LoggerConfig, LossConfig, ModelConfig, RunConfig
from raylight.errors import ConfigError, RaylightError, did_you_mean, first_line

CLASS_COUNT = ("num_classes", "n_classes", "classes", "out_features")
"""Possible names of the parameter for the number of classes of a network, loss or metric."""

LOGGERS = {
    "tensorboard": {
        "_target_": "pytorch_lightning.loggers.TensorBoardLogger",
        "name": "tensorboard",
        "version": "",
        "default_hp_metric": False,
    }
}
"""Nodes of the loggers that can be given by a word."""

MIXING = {
    "mixup": {"_target_": "torchvision.transforms.v2.MixUp", "alpha": 0.2},
    "cutmix": {"_target_": "torchvision.transforms.v2.CutMix", "alpha": 1.0},
}
"""Nodes of the batch transforms that can be given by a word: alpha as in Zhang et al. 2018 on ImageNet, and Yun et al. 2019."""

Node = Mapping[str, Any]


def find_target(key: str, target: str) -> Callable[..., Any]:
    """Imports a class or function by its dotted name.

    Args:
        key: of the node, for messages.
        target: such as ``my_package.nets.Tiny``.

    Returns:
        The class or function.

    Raises:
        ConfigError: it doesn't exist, or can't be imported.
    """
    module_name, _, attribute = target.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        missing = "" if error.name and module_name.startswith(error.name) else f" (it needs {error.name})"
        raise ConfigError([f"{key}._target_: there is no module {module_name!r}{missing}"]) from error
    except Exception as error:  # a user's module may fail in any way
        raise ConfigError([f"{key}._target_: importing {module_name!r}: {cause_text(error)}"]) from error
    callee: Callable[..., Any] | None = getattr(module, attribute, None)
    if not callable(callee):
        names = [name for name in dir(module) if not name.startswith("_")]
        raise ConfigError([f"{key}._target_: {module_name} has no {attribute!r}{did_you_mean(attribute, names)}"])
    return callee


def parameters_of(callee: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """The parameters of a class or function; empty if it has no signature, as some written in C."""
    try:
        return inspect.signature(callee).parameters
    except ValueError:
        return {}


def class_count_parameter(callee: Callable[..., Any]) -> str | None:
    """The name of the parameter for the number of classes; ``None`` if there is none."""
    return next((name for name in CLASS_COUNT if name in parameters_of(callee)), None)


def network_node(model: ModelConfig) -> dict[str, Any]:
    """The ``_target_`` node of a user's own network, without the number of classes."""
    return {"_target_": model._target_, **model.arguments}


def loss_node(loss: LossConfig) -> dict[str, Any]:
    """The ``_target_`` node of a user's own loss, without the arguments that Raylight adds."""
    return {"_target_": loss._target_, **loss.arguments}


def logger_nodes(logger: LoggerConfig) -> list[tuple[str, dict[str, Any]]]:
    """The key and the ``_target_`` node of each logger except W&B; invalid entries are left out."""
    named = [("logger.name", dict(LOGGERS[logger.name]))] if logger.name in LOGGERS else []
    return [*named, *_nodes("logger.also", logger.also, LOGGERS)]


def batch_nodes(augment: AugmentConfig) -> list[tuple[str, dict[str, Any]]]:
    """The key and the ``_target_`` node of each batch transform; invalid entries are left out."""
    return _nodes("augment.batch", augment.batch, MIXING)


def _nodes(key: str, listed: Sequence[Any], words: Mapping[str, Node]) -> list[tuple[str, dict[str, Any]]]:
    nodes = ((f"{key}[{position}]", words.get(str(entry), entry)) for position, entry in enumerate(listed))
    return [(item_key, dict(node)) for item_key, node in nodes if isinstance(node, Mapping)]


def unset_problems(run: RunConfig) -> Iterator[str]:
    """Yields problems of settings of a user's own class without the class, and vice versa."""
    model, loss = run.model, run.loss
    if model.family == "own" and model._target_ is None:
        yield "model._target_: not set; name the class of your network, model._target_=my_package.nets.Tiny"
    for name in ("_target_", "arguments", "stages"):
        if model.family != "own" and getattr(model, name):
            yield f"model.{name}: set, but model.family={model.family} isn't a class of yours; begin with model=own"
    if loss._target_ is None and (loss.name == "own" or loss.arguments):
        yield "loss._target_: not set; name the class of your loss, loss._target_=my_package.losses.Mine"


def word_problems(run: RunConfig) -> Iterator[str]:
    """Yields the unknown words in lists of nodes."""
    for key, listed, words in (("logger.also", run.logger.also, LOGGERS), ("augment.batch", run.augment.batch, MIXING)):
        for position, word in enumerate(listed):
            if not isinstance(word, Mapping) and word not in words:
                yield (
                    f"{key}[{position}]: {word!r} is not one of {', '.join(words)}, nor a node with a _target_"
                    f"{did_you_mean(str(word), words)}"
                )


def build_node(key: str, node: Mapping[str, Any], *leading: Any, **given: Any) -> Any:
    """Builds the object of a checked node.

    Args:
        key: of the node, for messages.
        node: with ``_target_`` and the arguments.
        leading: further arguments by position.
        given: further arguments by name.

    Returns:
        The object, or a partial function if the node has ``_partial_``.

    Raises:
        ConfigError: its class or function fails.
    """
    from hydra.utils import instantiate

    try:
        return instantiate(dict(node), *leading, _convert_="all", **given)
    except Exception as error:  # a class may fail in any way, and Hydra wraps the error
        raise ConfigError([f"{key}: {node['_target_']}: {cause_text(error)}"]) from error


def build_for_classes(key: str, node: Mapping[str, Any], n_classes: int, **given: Any) -> Any:
    """Builds the object of a checked node with the number of classes, if the signature has a parameter for it.

    Args:
        key: of the node, for messages.
        node: with ``_target_`` and the arguments.
        n_classes: number of classes, passed as one of ``CLASS_COUNT``.
        given: further arguments by name.

    Returns:
        The object.

    Raises:
        ConfigError: its class or function doesn't exist, or fails.
    """
    parameter = class_count_parameter(find_target(key, str(node["_target_"])))
    return build_node(key, node, **given, **({parameter: n_classes} if parameter else {}))


def cause_text(error: Exception) -> str:
    """The first line of an error's text, without Hydra's wrapping; with its type where the text alone isn't clear."""
    cause = error.__cause__ if type(error).__name__ == "InstantiationException" and error.__cause__ else error
    text = first_line(cause)
    plain = isinstance(cause, ValueError | AssertionError | RaylightError)
    return text if plain else f"{type(cause).__name__}: {text}"
