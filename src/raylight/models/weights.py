"""Reading weights from a file or from torchvision, and putting them into a network whose head may differ.

Weights are never replaced silently: missing, damaged or unfitting ones are an error that names the remedies.
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
"""Where checkpoints keep the state dict: Lightning's and this program's; PyTorch's tutorials; torchvision's references."""

PREFIXES = ("network.", "model.", "module.", "_orig_mod.")
"""Before the names of a network's tensors: a run's, most LightningModules', DistributedDataParallel's, torch.compile's."""

DOWNLOAD_TIMEOUT = 20.0
"""Seconds without an answer after which a download of weights is given up."""


def read_state(path: str) -> Mapping[str, Tensor]:
    """Read a state dict from a ``.safetensors`` file or a file of ``torch.save``, without running code in it.

    A checkpoint may hold the state dict under a name of its own (``HOLDERS``), and the names of all tensors may begin alike
    (``PREFIXES``).

    Args:
        path: of the file, or of a run folder, whose ``model.safetensors`` is read.

    Raises:
        WeightsError: no such file, or it isn't a state dict.
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
            f"model.weights: {path} holds more than tensors, or isn't a file of torch.save, and isn't loaded, since "
            f"that could run code from it; save only the state dict: torch.save(network.state_dict(), ...) "
            f"({first_line(error)})"
        ) from error
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise WeightsError(f"model.weights: {path} can't be read as a state dict: {first_line(error)}") from error
    if isinstance(state, Mapping):
        state = next((state[name] for name in HOLDERS if isinstance(state.get(name), Mapping)), state)
    if not isinstance(state, Mapping) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(
            f"model.weights: {path} holds a {type(state).__name__}, not a state dict (names with tensors)"
        )
    found: Mapping[str, Tensor] = state
    while prefix := next((some for some in PREFIXES if all(name.startswith(some) for name in found)), None):
        found = _renamed(found, rf"^{re.escape(prefix)}", "")
    return found


def torchvision_state(name: str) -> Mapping[str, Tensor]:
    """The state dict of torchvision's default weights, from torch's cache or downloaded into it.

    Raises:
        WeightsError: they can't be downloaded.
    """
    from torchvision.models import get_model_weights

    weights = get_model_weights(name).DEFAULT
    try:
        with socket_timeout(DOWNLOAD_TIMEOUT):  # torch.hub sets none: an unreachable host would hang for minutes
            state: Mapping[str, Tensor] = weights.get_state_dict(progress=False, check_hash=True)
    except (OSError, http.client.HTTPException, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"model.weights=DEFAULT: torchvision's {weights} can't be downloaded from {weights.url} "
            f"({first_line(error)}); either give a file with model.weights=/path/to/state_dict.pt, "
            "or start from random weights with model.weights=null"
        ) from error
    # DenseNet's published files carry the names of an older torchvision.
    return _renamed(state, r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.") if "densenet" in name else state


def load_state(network: nn.Module, state: Mapping[str, Tensor], head: Sequence[str], source: str) -> None:
    """Put weights into a network; the head keeps its random start where the weights were made for other classes.

    Half-precision tensors are widened to the network's type.

    Args:
        network: changed in place.
        state: names as in the network's own state dict.
        head: paths of the modules that may differ.
        source: where the state comes from, for messages.

    Raises:
        WeightsError: anything but the head is missing, unknown, or of another shape.
    """
    own = network.state_dict()
    in_head = {name for name in own if _is_below(name, head)}
    fits = {name for name, value in state.items() if name in own and own[name].shape == value.shape}
    taken = set(state) if in_head <= fits else {name for name in state if not _is_below(name, head)}
    # BatchNorm's step counter came later than many published files and is only used with momentum=None.
    wanted = {name for name in own if not name.endswith("num_batches_tracked")} - (
        set() if in_head <= fits else in_head
    )
    problems = [
        *_listed("missing", wanted - set(state)),
        *_listed("unknown", {name for name in taken - set(own) if not name.lower().startswith("aux")}),
        *_listed(
            "of another shape",
            {f"{n} {tuple(state[n].shape)} for {tuple(own[n].shape)}" for n in (taken & set(own)) - fits},
        ),
    ]
    if problems:
        raise WeightsError(
            f"model.weights: {source} doesn't fit the network: {'; '.join(problems)}. Only the head may differ; "
            "give weights of the same network, or model.weights=null for random ones"
        )
    if not in_head <= fits and any(_is_below(name, head) for name in state):
        log.info("%s: all but the head (%s), which was made for other classes, is taken", source, ", ".join(head))
    kept = OrderedDict((name, state[name]) for name in own if name in taken)
    if hasattr(state, "_metadata"):  # versions, by which some modules translate older weights
        kept._metadata = state._metadata  # type: ignore[attr-defined]
    network.load_state_dict(kept, strict=False)


def _is_below(name: str, paths: Sequence[str]) -> bool:
    return any(name.startswith(f"{path}.") for path in paths)


def _listed(what: str, names: set[str], most: int = 5) -> list[str]:
    if not names:
        return []
    shown = sorted(names)[:most]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return [f"{len(names)} {what} ({', '.join(shown)}{more})"]


def _renamed(state: Mapping[str, Tensor], pattern: str, replacement: str) -> Mapping[str, Tensor]:
    renamed = OrderedDict((re.sub(pattern, replacement, name), value) for name, value in state.items())
    if hasattr(state, "_metadata"):
        renamed._metadata = state._metadata  # type: ignore[attr-defined]
    return renamed
