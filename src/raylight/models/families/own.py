"""Any network of a user's package, named by ``model._target_``: built for the classes of the data, tried, split into stages."""

import hashlib
import inspect
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from raylight.config.rules.nodes import build_for_classes, cause_text, class_count_parameter, find_target, network_node
from raylight.config.rules.pretrained import model_input
from raylight.config.rules.shapes import Size, height_width, size_text
from raylight.config.rules.targets import TRUSTED_PACKAGES, check_node
from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError, did_you_mean
from raylight.models.same_outputs import Outputs, comparable, random_images
from raylight.models.stages import StagedNetwork, find_stages, original_names, split_head
from raylight.models.weights import load_state, read_state

log = logging.getLogger("raylight")


def build_own(model: ModelConfig, n_outputs: int) -> StagedNetwork:
    """Builds the network that ``model._target_`` names.

    The number of outputs is passed as the parameter that its signature has for it; without one, the last linear layer is
    replaced. Stages are those in ``model.stages``, else in the network's own attribute ``stages``, else they are searched for.

    Args:
        model: _target_, arguments, stages, weights and image_size are used.
        n_outputs: width of the output layer.

    Returns:
        The network, undivided if no stages were found.

    Raises:
        ConfigError: its package isn't trusted, it can't be built, or it isn't a classifier of such images.
        WeightsError: the weights can't be loaded or don't fit.
    """
    target = str(model._target_)
    check_node("model", "network", network_node(model))
    for name in ("dense", "dropout", "channels"):
        if value := getattr(model, name):
            raise ConfigError(
                [f"model.{name}: {value}, but {target} doesn't use it; its settings are model.arguments.NAME"]
            )
    network = build_for_classes("model", network_node(model), n_outputs)
    if not isinstance(network, nn.Module):
        raise ConfigError([f"model._target_: {target} returned a {type(network).__name__}; expected a torch.nn.Module"])
    size = model_input(model).size
    output = _last_layer(network, target, size)
    if class_count_parameter(find_target("model", target)) is None:
        _replace_output(network, output, target, n_outputs)
    _check_logits(network, target, size, n_outputs)
    if model.weights is not None:
        state = read_state(model.weights)
        if not any(name in network.state_dict() for name in state):  # saved after split_head
            state = original_names(state, str(output))
        load_state(network, state, [output] if output else [], source=model.weights)
    staged = _staged(network, output, model, size)
    if not staged.sequential:
        _check_training(network, target, size)
        log.info(
            "%s: found no stages that run one after the other, so it trains as a whole; name them with model.stages",
            model.name,
        )
    return staged


def code_digest(parts: Iterable[object]) -> str:
    """Hashes the source files of a user's classes, since cached features become invalid when the code changes.

    Args:
        parts: objects whose classes count; those of trusted packages don't.

    Returns:
        16 hexadecimal digits; empty if there are no classes of the user's.
    """
    modules = {type(part).__module__ for part in parts}
    own = sorted(name for name in modules if name.split(".")[0] not in (*TRUSTED_PACKAGES, "timm", "builtins"))
    text = hashlib.sha256()
    for name in own:
        try:
            text.update(inspect.getsource(sys.modules[name]).encode())
        except (OSError, TypeError, KeyError):
            text.update(name.encode())
    return text.hexdigest()[:16] if own else ""


def _run(network: nn.Module, target: str, size: Size) -> Any:
    """The output of the network for two random images."""
    images = torch.rand(2, 3, *height_width(size), generator=torch.Generator().manual_seed(0))
    training = network.training
    network.eval()
    try:
        with torch.random.fork_rng(devices=()), torch.no_grad():
            return network(images)
    except Exception as error:  # a user's network may fail in any way
        raise ConfigError(
            [
                f"model._target_: {target} fails on images of {size_text(size)} pixels (model.image_size): {cause_text(error)}"
            ]
        ) from error
    finally:
        network.train(training)


def _last_layer(network: nn.Module, target: str, size: Size) -> str | None:
    """Path of the linear layer or convolution that runs last; ``None`` if none runs."""
    paths: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, path=path: paths.append(path))
        for path, module in network.named_modules()
        if path and isinstance(module, nn.Linear | nn.Conv2d)
    ]
    try:
        _run(network, target, size)
    finally:
        for hook in hooks:
            hook.remove()
    return paths[-1] if paths else None


def _replace_output(network: nn.Module, output: str | None, target: str, n_outputs: int) -> None:
    layer = network.get_submodule(output) if output else None
    if not isinstance(layer, nn.Linear):
        raise ConfigError(
            [
                f"model._target_: {target} has no parameter for the number of classes (num_classes, n_classes, classes, "
                "out_features), and no linear layer at its end that could be replaced; give it one of these parameters"
            ]
        )
    parent, _, name = str(output).rpartition(".")
    new = nn.Linear(layer.in_features, n_outputs, bias=layer.bias is not None)
    setattr(network.get_submodule(parent), name, new)


def _check_logits(network: nn.Module, target: str, size: Size, n_outputs: int) -> None:
    logits = _run(network, target, size)
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, n_outputs) or not logits.is_floating_point():
        given = (
            f"{logits.dtype}{list(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        )
        raise ConfigError(
            [
                f"model._target_: forward() of {target} returns {given} for two images; expected float[2, {n_outputs}], "
                "a logit per class"
            ]
        )
    if n_outputs > 1 and bool((logits >= 0).all()) and torch.allclose(logits.float().sum(1), torch.ones(2), atol=1e-4):
        raise ConfigError(
            [f"model._target_: {target} returns probabilities; expected logits (the loss applies the softmax)"]
        )


def _check_training(network: nn.Module, target: str, size: Size) -> None:
    with comparable(network), torch.inference_mode():
        given = Outputs.of(network, random_images(size)).trained
    if isinstance(given, tuple | list | dict):
        raise ConfigError(
            [
                f"model._target_: forward() of {target} returns a {type(given).__name__} in training; expected logits alone "
                "(outputs of auxiliary classifiers aren't used)"
            ]
        )


def _staged(network: nn.Module, output: str | None, model: ModelConfig, size: Size) -> StagedNetwork:
    named: Sequence[str] = model.stages or getattr(network, "stages", ())
    if named and all(isinstance(name, str) for name in named):
        return _as_named(network, list(named), output, size)
    if output is not None:
        try:
            found = find_stages(network, output, size)
        except ValueError:  # the output layer is in none of the modules that run in sequence
            found = None
        if found is not None:
            names, added = found
            return StagedNetwork(network, names, _head_start(names, output), added)
        if (staged := split_head(network, output, size)) is not None:
            return staged
    return StagedNetwork.undivided(network)


def _as_named(network: nn.Module, named: list[str], output: str | None, size: Size) -> StagedNetwork:
    known = [path for path, _ in network.named_modules() if path]
    for name in named:
        if name not in known:
            raise ConfigError([f"model.stages: the network has no module {name!r}{did_you_mean(name, known)}"])
    if not any(f"{output}.".startswith(f"{name}.") for name in named):
        raise ConfigError([f"model.stages: none of {', '.join(named)} holds the output layer, {output}"])
    found = find_stages(network, str(output), size, named=named)
    if found is None:
        raise ConfigError(
            [
                f"model.stages: {', '.join(named)}, run one after the other, don't give the same output as the network, in "
                "evaluation and in training (with dropout); name all modules in the order in which they run, or leave it empty"
            ]
        )
    names, added = found
    return StagedNetwork(network, names, _head_start(names, str(output)), added)


def _head_start(names: Sequence[str], output: str) -> int:
    return next(position for position, name in enumerate(names) if f"{output}.".startswith(f"{name}."))
