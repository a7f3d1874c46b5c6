"""Any network of a user's package, named by ``model._target_``: built for the data's classes, tried once, cut into stages."""

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
from raylight.models.stages import StagedNetwork, find_stages, split_head, whole
from raylight.models.weights import load_state, read_state

log = logging.getLogger("raylight")


def build_own(model: ModelConfig, n_outputs: int) -> StagedNetwork:
    """Build the network that ``model._target_`` names.

    The number of outputs is handed over under the name that its signature has for it; without one, the last linear layer is
    replaced. Stages are those of ``model.stages``, else of the network's own attribute ``stages``, else they are looked for.

    Args:
        model: _target_, arguments, stages, weights and image_size are used.
        n_outputs: width of the output layer.

    Raises:
        ConfigError: its package isn't trusted, it can't be built, or what it is isn't a classifier of such images.
        WeightsError: the weights can't be had or don't fit.
    """
    target = str(model._target_)
    check_node("model", "network", network_node(model))
    for name in ("dense", "dropout", "channels"):
        if value := getattr(model, name):
            raise ConfigError(
                [f"model.{name}: {value}, which {target} doesn't read; its settings are model.arguments.NAME"]
            )
    network = build_for_classes("model", network_node(model), n_outputs)
    if not isinstance(network, nn.Module):
        raise ConfigError([f"model._target_: {target} made a {type(network).__name__}; expected a torch.nn.Module"])
    size = model_input(model).size
    output = _last_layer(network, target, size)
    if class_count_parameter(find_target("model", target)) is None:
        _replace_output(network, output, target, n_outputs)
    _check_logits(network, target, size, n_outputs)
    if model.weights is not None:
        state = read_state(model.weights)
        if not any(name in network.state_dict() for name in state):  # as split_head had named them
            state = whole(state, str(output))
        load_state(network, state, [output] if output else [], source=model.weights)
    staged = _staged(network, output, model, size)
    if not staged.sequential:
        log.info(
            "%s: found no stages that run one after the other, so that it trains as a whole; name them with model.stages",
            model.name,
        )
    return staged


def code_digest(parts: Iterable[object]) -> str:
    """A digest of the source files that the classes of some objects are written in; those of trusted packages don't count.

    What is cached of a network has to go when its code changes, though its parameters may stay.
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
    """What the network makes of two random images."""
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
    """Path of the linear layer or convolution that runs last; None where none runs."""
    ran: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, path=path: ran.append(path))
        for path, module in network.named_modules()
        if path and isinstance(module, nn.Linear | nn.Conv2d)
    ]
    try:
        _run(network, target, size)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1] if ran else None


def _replace_output(network: nn.Module, output: str | None, target: str, n_outputs: int) -> None:
    layer = network.get_submodule(output) if output else None
    if not isinstance(layer, nn.Linear):
        raise ConfigError(
            [
                f"model._target_: {target} takes no number of classes (num_classes, n_classes, classes, out_features), and has "
                "no linear layer at its end that could be replaced; give it one of these parameters"
            ]
        )
    parent, _, name = str(output).rpartition(".")
    new = nn.Linear(layer.in_features, n_outputs, bias=layer.bias is not None)
    setattr(network.get_submodule(parent), name, new)


def _check_logits(network: nn.Module, target: str, size: Size, n_outputs: int) -> None:
    logits = _run(network, target, size)
    wanted = f"float[2, {n_outputs}], a logit for each class,"
    if not isinstance(logits, torch.Tensor) or logits.shape != (2, n_outputs) or not logits.is_floating_point():
        given = (
            f"{logits.dtype}{list(logits.shape)}" if isinstance(logits, torch.Tensor) else f"a {type(logits).__name__}"
        )
        raise ConfigError(
            [f"model._target_: {target} gives {given} for two images; expected {wanted} of its forward()"]
        )
    if n_outputs > 1 and bool((logits >= 0).all()) and torch.allclose(logits.float().sum(1), torch.ones(2), atol=1e-4):
        raise ConfigError(
            [f"model._target_: {target} gives probabilities; expected logits (the loss has its own softmax)"]
        )


def _staged(network: nn.Module, output: str | None, model: ModelConfig, size: Size) -> StagedNetwork:
    named: Sequence[str] = model.stages or getattr(network, "stages", ())
    if named and all(isinstance(name, str) for name in named):
        return _as_named(network, list(named), output, size)
    if output is not None:
        try:
            found = find_stages(network, output, size)
        except ValueError:  # the output layer is no part of what runs in sequence
            found = None
        if found is not None:
            names, added = found
            return StagedNetwork(network, names, _place(names, output), added)
        if (staged := split_head(network, output, size)) is not None:
            return staged
    return StagedNetwork(network, ["network"], 0, sequential=False)


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
                f"model.stages: {', '.join(named)}, run one after the other, don't give what the network gives; name all "
                "modules on the way, in their order, or leave it empty"
            ]
        )
    names, added = found
    return StagedNetwork(network, names, _place(names, str(output)), added)


def _place(names: Sequence[str], output: str) -> int:
    return next(place for place, name in enumerate(names) if f"{output}.".startswith(f"{name}."))
