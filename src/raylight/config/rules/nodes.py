"""What a ``_target_`` node names: found, its signature read, built, each failure in a sentence with the node's key.

Which packages may be named is left to ``targets``; nothing of another package is imported before it is asked.
"""

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from raylight.config.schema import AugmentConfig, LoggerConfig, LossConfig, ModelConfig, RunConfig
from raylight.errors import ConfigError, RaylightError, did_you_mean, first_line

CLASS_COUNT = ("num_classes", "n_classes", "classes", "out_features")
"""What a network's, a loss's or a metric's parameter for the number of classes may be called."""

LOGGERS = {
    "tensorboard": {
        "_target_": "pytorch_lightning.loggers.TensorBoardLogger",
        "name": "tensorboard",
        "version": "",
        "default_hp_metric": False,
    }
}
"""Loggers that have a word, as nodes."""

MIXING = {
    "mixup": {"_target_": "torchvision.transforms.v2.MixUp", "alpha": 0.2},
    "cutmix": {"_target_": "torchvision.transforms.v2.CutMix", "alpha": 1.0},
}
"""Batch transforms that have a word, as nodes: alpha as in Zhang et al. 2018 on ImageNet, and Yun et al. 2019."""

Node = Mapping[str, Any]


def find_target(key: str, target: str) -> Callable[..., Any]:
    """The class or function of a dotted name.

    Args:
        key: of the node, for messages.
        target: such as ``my_package.nets.Tiny``; its module is imported.

    Raises:
        ConfigError: it isn't there, or can't be imported.
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
    """The parameters of a class or function; none where it doesn't tell, as some of C don't."""
    try:
        return inspect.signature(callee).parameters
    except ValueError:
        return {}


def class_count_parameter(callee: Callable[..., Any]) -> str | None:
    """The parameter that takes the number of classes, by its name; None where there is none."""
    return next((name for name in CLASS_COUNT if name in parameters_of(callee)), None)


def network_node(model: ModelConfig) -> dict[str, Any]:
    """The ``_target_`` node of a network of the user's, without the number of classes."""
    return {"_target_": model._target_, **model.arguments}


def loss_node(loss: LossConfig) -> dict[str, Any]:
    """The ``_target_`` node of a loss of the user's, without what is handed over to it."""
    return {"_target_": loss._target_, **loss.arguments}


def logger_nodes(logger: LoggerConfig) -> list[tuple[str, dict[str, Any]]]:
    """The loggers but W&B's: the key and the ``_target_`` node of each; of what is neither, nothing."""
    named = [("logger.name", dict(LOGGERS[logger.name]))] if logger.name in LOGGERS else []
    return [*named, *_nodes("logger.also", logger.also, LOGGERS)]


def batch_nodes(augment: AugmentConfig) -> list[tuple[str, dict[str, Any]]]:
    """The batch transforms: the key and the ``_target_`` node of each; of what is neither, nothing."""
    return _nodes("augment.batch", augment.batch, MIXING)


def _nodes(key: str, listed: Sequence[Any], words: Mapping[str, Node]) -> list[tuple[str, dict[str, Any]]]:
    found = ((f"{key}[{place}]", words.get(str(one), one)) for place, one in enumerate(listed))
    return [(place, dict(node)) for place, node in found if isinstance(node, Mapping)]


def unset_problems(run: RunConfig) -> Iterator[str]:
    """Settings of a class of the user's without the class, and the other way round."""
    model, loss = run.model, run.loss
    if model.family == "own" and model._target_ is None:
        yield "model._target_: not set; name the class of your network, model._target_=my_package.nets.Tiny"
    for name in ("_target_", "arguments", "stages"):
        if model.family != "own" and getattr(model, name):
            yield f"model.{name}: set, but model.family={model.family} has no class of yours; begin with model=own"
    if loss._target_ is None and (loss.name == "own" or loss.arguments):
        yield "loss._target_: not set; name the class of your loss, loss._target_=my_package.losses.Mine"


def word_problems(run: RunConfig) -> Iterator[str]:
    """Words in lists of nodes that stand for none."""
    for key, listed, words in (("logger.also", run.logger.also, LOGGERS), ("augment.batch", run.augment.batch, MIXING)):
        for place, word in enumerate(listed):
            if not isinstance(word, Mapping) and word not in words:
                yield (
                    f"{key}[{place}]: {word!r} is not one of {', '.join(words)}, nor a node with a _target_"
                    f"{did_you_mean(str(word), words)}"
                )


def build_node(key: str, node: Mapping[str, Any], *leading: Any, **given: Any) -> Any:
    """Build what a checked node names.

    Args:
        key: of the node, for messages.
        node: with ``_target_`` and the arguments.
        leading: further arguments by position.
        given: further arguments by name.

    Raises:
        ConfigError: its class or function fails.
    """
    from hydra.utils import instantiate

    try:
        return instantiate(dict(node), *leading, _convert_="all", **given)
    except Exception as error:  # whatever a class says of its arguments, within the pages that Hydra puts around it
        raise ConfigError([f"{key}: {node['_target_']}: {cause_text(error)}"]) from error


def build_for_classes(key: str, node: Mapping[str, Any], n_classes: int, **given: Any) -> Any:
    """``build_node``, with the number of classes where the signature has a name for it (``CLASS_COUNT``).

    Args:
        key: of the node, for messages.
        node: with ``_target_`` and the arguments.
        n_classes: number of classes.
        given: further arguments by name.

    Raises:
        ConfigError: its class or function isn't there, or fails.
    """
    counted = class_count_parameter(find_target(key, str(node["_target_"])))
    return build_node(key, node, **given, **({counted: n_classes} if counted else {}))


def cause_text(error: Exception) -> str:
    """What an error says, without the pages that Hydra puts around it."""
    cause = error.__cause__ if type(error).__name__ == "InstantiationException" and error.__cause__ else error
    text = first_line(cause)
    plain = isinstance(cause, ValueError | AssertionError | RaylightError)
    return text if plain else f"{type(cause).__name__}: {text}"
