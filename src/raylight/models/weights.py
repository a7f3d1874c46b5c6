"""Reading weights from a file or from torchvision, and loading them into a network whose head may differ.

Weights are never replaced silently: if they are missing, damaged or don't fit, this is an error that names the remedies.
"""

import http.client
import logging
import pickle
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from raylight.errors import WeightsError, first_line
from raylight.process import socket_timeout

log = logging.getLogger("raylight")

RUN_FILE = "model.safetensors"
"""The weights in a run folder."""

HOLDERS = ("state_dict", "model_state_dict", "model")
"""Keys of the state dict in checkpoints: of Lightning and Raylight; of PyTorch's tutorials; of torchvision's references."""

PREFIXES = ("network.", "model.", "module.", "_orig_mod.")
"""Prefixes of tensor names: of Raylight, most LightningModules, DistributedDataParallel, torch.compile."""

DOWNLOAD_TIMEOUT = 20.0
"""Seconds without an answer after which a download of weights fails."""


def read_state(path: str) -> Mapping[str, Tensor]:
    """Reads a state dict from a ``.safetensors`` file or a file of ``torch.save``, without running code in it.

    In a checkpoint, the state dict may be under one of the keys in ``HOLDERS``, and the names of all tensors may have one of
    ``PREFIXES``.

    Args:
        path: of the file, or of a run folder, whose ``model.safetensors`` is read.

    Returns:
        Tensors by name, without such a prefix.

    Raises:
        WeightsError: there is no such file, or it isn't a state dict.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        file /= RUN_FILE
    if not file.is_file():
        raise WeightsError(
            f"model.weights: there is no file {path!r}; give the path of a state dict, DEFAULT, or null for random weights"
        )
    try:
        state: Any = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise WeightsError(
            f"model.weights: {path} holds more than tensors, or isn't a file of torch.save; it isn't loaded, since that could "
            f"run code from it. Save only the state dict: torch.save(network.state_dict(), ...) ({first_line(error)})"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"model.weights: {path} can't be read as a state dict: {first_line(error)}") from error
    if isinstance(state, Mapping):
        state = next((state[name] for name in HOLDERS if isinstance(state.get(name), Mapping)), state)
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"model.weights: {path} holds a {type(state).__name__}, not a state dict (tensors by name)")
    tensors: Mapping[str, Tensor] = state
    while prefix := next((some for some in PREFIXES if all(name.startswith(some) for name in tensors)), None):
        tensors = _renamed(tensors, rf"^{re.escape(prefix)}", "")
    return tensors


def torchvision_state(name: str) -> Mapping[str, Tensor]:
    """Reads torchvision's default weights from torch's cache, or downloads them into it.

    Args:
        name: of a torchvision classifier.

    Returns:
        Tensors by name.

    Raises:
        WeightsError: they can't be downloaded.
    """
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    try:
        with socket_timeout(
            DOWNLOAD_TIMEOUT
        ):  # torch.hub sets none, and would wait for an unreachable host for minutes
            state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, http.client.HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"model.weights=DEFAULT: torchvision's {weights} can't be downloaded from {weights.url} "
            f"({first_line(error)}); either give a file with model.weights=/path/to/state_dict.pt, "
            "or start from random weights with model.weights=null"
        ) from error
    # DenseNet's published files have the names of an older torchvision.
    return _renamed(state, r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.") if "densenet" in name else state


def load_state(network: nn.Module, state: Mapping[str, Tensor], head: Sequence[str], source: str) -> None:
    """Loads weights into a network; the head keeps its random weights if its shape differs, as it does for other classes.

    Half-precision tensors are converted to the type of the network.

    Args:
        network: changed in place.
        state: tensors by their names in the network's own state dict.
        head: paths of the modules that may differ.
        source: where the state comes from, for messages.

    Raises:
        WeightsError: a tensor outside the head is missing, unknown, or of another shape.
    """
    own = network.state_dict()
    in_head = {name for name in own if _is_below(name, head)}
    fits = {name for name, value in state.items() if name in own and own[name].shape == value.shape}
    taken = set(state) if in_head <= fits else {name for name in state if not _is_below(name, head)}
    # BatchNorm's step counter is younger than many published files, and only used with momentum=None.
    wanted = {name for name in own if not name.endswith("num_batches_tracked")} - (
        set() if in_head <= fits else in_head
    )
    problems = [
        *_listed("missing", wanted - set(state)),
        *_listed("unknown", {name for name in taken - set(own) if not name.lower().startswith("aux")}),
        *_listed("of another shape", _shapes(own, state, (taken & set(own)) - fits)),
    ]
    if problems:
        raise WeightsError(
            f"model.weights: {source} doesn't fit the network: {'; '.join(problems)}. Only the head may differ; "
            "give weights of the same network, or model.weights=null for random ones"
        )
    if not in_head <= fits and any(_is_below(name, head) for name in state):
        log.info("%s: loaded except for the head (%s), which was made for other classes", source, ", ".join(head))
    kept = OrderedDict((name, state[name]) for name in own if name in taken)
    if hasattr(state, "_metadata"):  # versions, by which some modules translate older weights
        kept._metadata = state._metadata  # type: ignore[attr-defined]
    network.load_state_dict(kept, strict=False)


def load_saved(network: nn.Module, state: Mapping[str, Tensor], source: str) -> None:
    """Loads what a run has saved into the network of its settings.

    Args:
        network: changed in place.
        state: all its tensors by name.
        source: the file, for messages.

    Raises:
        WeightsError: tensors are missing, unknown, or of another shape.
    """
    own = network.state_dict()
    other = {name for name in own if name in state and own[name].shape != state[name].shape}
    problems = [
        *_listed("missing", set(own) - set(state)),
        *_listed("unknown", set(state) - set(own)),
        *_listed("of another shape", _shapes(own, state, other)),
    ]
    if problems:
        raise WeightsError(
            f"{source} doesn't fit the network of the run's config.yaml: {'; '.join(problems)}. The settings or the code of "
            "the network have changed, or an earlier version of Raylight divided it into other stages; train it again"
        )
    network.load_state_dict(state)


def _shapes(own: Mapping[str, Tensor], state: Mapping[str, Tensor], names: set[str]) -> set[str]:
    return {f"{name} {tuple(state[name].shape)} for {tuple(own[name].shape)}" for name in names}


def _is_below(name: str, paths: Sequence[str]) -> bool:
    return any(name.startswith(f"{path}.") for path in paths)


def _listed(problem: str, names: set[str], limit: int = 5) -> list[str]:
    if not names:
        return []
    shown = sorted(names)[:limit]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return [f"{len(names)} {problem} ({', '.join(shown)}{more})"]


def _renamed(state: Mapping[str, Tensor], pattern: str, replacement: str) -> Mapping[str, Tensor]:
    renamed = OrderedDict((re.sub(pattern, replacement, name), value) for name, value in state.items())
    if hasattr(state, "_metadata"):
        renamed._metadata = state._metadata  # type: ignore[attr-defined]
    return renamed
