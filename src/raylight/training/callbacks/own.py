"""Callbacks from Lightning or a user's package, listed in ``callbacks``, beside the run's own."""

import io
from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning.callbacks import Callback

from raylight.config.rules.nodes import build_node
from raylight.errors import ConfigError, first_line


def build_callbacks(nodes: Sequence[Any]) -> tuple[Callback, ...]:
    """Builds the callbacks that a config lists.

    Args:
        nodes: ``_target_`` nodes, already checked.

    Returns:
        The callbacks, in order.

    Raises:
        ConfigError: one can't be built, is no callback, or couldn't be restored by a resumed run.
    """
    built: list[Callback] = []
    for index, node in enumerate(nodes):
        key, target = f"callbacks[{index}]", node["_target_"]
        callback = build_node(key, node)
        if not isinstance(callback, Callback):
            other = any(base.__module__.startswith("lightning.") for base in type(callback).__mro__)
            hint = " (its base is of the package lightning; take that of pytorch_lightning)" if other else ""
            raise ConfigError(
                [f"{key}: {target} made a {type(callback).__name__}; expected a pytorch_lightning.Callback{hint}"]
            )
        state = callback.state_dict()
        if state and any(one.state_key == callback.state_key for one in built):
            raise ConfigError(
                [
                    f"{key}: {target} keeps a state under {callback.state_key!r}, as another one does; give it a state_key"
                ]
            )
        _check_state(key, target, state)
        built.append(callback)
    return tuple(built)


def _check_state(key: str, target: str, state: dict[str, Any]) -> None:
    """Refuse a state that can't be loaded without running code: it may hold numbers, text, tensors, lists and dictionaries."""
    buffer = io.BytesIO()
    try:
        torch.save(state, buffer)
        buffer.seek(0)
        torch.load(buffer, weights_only=True)
    except Exception as error:  # pickling and unpickling may fail in any way
        raise ConfigError(
            [
                f"{key}: {target}.state_dict() can't be read back from a checkpoint ({first_line(error)}); "
                "return numbers, text, tensors, lists and dictionaries"
            ]
        ) from error
