"""Any of timm's classifiers, by name, with a new head and, if wanted, its published weights.

Builds, loads and splits a timm network; its input is described in ``config.rules.pretrained``. Encoders without a classifier
are left out. See https://huggingface.co/docs/timm.
"""

import urllib.error
import urllib.request
from typing import Any

from torch import nn

from raylight.config.rules.pretrained import model_input, timm_models
from raylight.config.rules.shapes import Size, height_width, size_text
from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError, WeightsError, first_line
from raylight.models.families.convnet import dense_layers
from raylight.models.families.torchvision import pointwise_head
from raylight.models.stages import StagedNetwork, find_stages, original_names, split_blocks, split_head
from raylight.models.weights import DOWNLOAD_TIMEOUT, load_state, read_state

_PROBE_SIZE = 96
"""Image size for finding stages, in pixels; small enough to be fast. Networks of a fixed size use that."""


def build_timm(model: ModelConfig, n_outputs: int) -> StagedNetwork:
    """Builds a timm classifier.

    With ``model.dense`` or ``model.dropout``, the last layer is replaced by those layers and an output layer with dropout
    before each; else it is timm's own, with timm's initialisation. Networks with several classifiers (distilled ones) can't be
    split into stages, and keep their heads.

    Args:
        model: name, weights, image_size, dense and dropout are used.
        n_outputs: width of the output layer.

    Returns:
        The network, undivided if it can't be split.

    Raises:
        ConfigError: timm isn't installed, has no classifier of that name, or it can't take such images.
        WeightsError: the weights can't be loaded or don't fit.
    """
    published = timm_models(model.name).get_pretrained_cfg(model.name)
    outputs = (published.classifier,) if isinstance(published.classifier, str) else tuple(published.classifier or ())
    if not outputs:
        raise ConfigError([f"model.name: timm's {model.name} is an encoder without a classifier; choose another"])
    if len(outputs) > 1 and model.dense:
        raise ConfigError(
            [f"model.dense: {model.name} has {len(outputs)} classifiers, which can't be replaced; leave it empty"]
        )
    network = _network(model, published, n_outputs, dropout=model.dropout if len(outputs) > 1 else 0.0)
    if len(outputs) == 1:
        _replace_head(network, outputs[0], model, n_outputs)
    if model.weights not in (None, "DEFAULT"):
        state, own = read_state(str(model.weights)), network.state_dict()
        # A network may have a child of its own that is called body.
        if not any(name in own for name in state if name.startswith("body.")):
            state = original_names(state, outputs[0])
        load_state(network, state, outputs, source=f"{model.name}'s {model.weights}")
    if len(outputs) > 1:
        return StagedNetwork.undivided(network)
    size = model_input(model).size
    try:
        return _staged(network, outputs[0], size if published.fixed_input_size else _PROBE_SIZE)
    except (AssertionError, ValueError, RuntimeError) as error:
        raise ConfigError([_size_problem(model, size, error)]) from error


def _network(model: ModelConfig, published: Any, n_outputs: int, dropout: float) -> nn.Module:
    timm, size = timm_models(model.name), model_input(model).size
    options: dict[str, Any] = {"num_classes": n_outputs, "drop_rate": dropout}
    if published.fixed_input_size and tuple(published.input_size[-2:]) != height_width(size):
        options["img_size"] = size
    if model.weights == "DEFAULT":
        return _pretrained(timm, model.name, published, options)
    try:
        network: nn.Module = timm.create_model(model.name, **options)
    except (AssertionError, ValueError, RuntimeError, TypeError) as error:
        raise ConfigError([_size_problem(model, size, error)]) from error
    return network


def _size_problem(model: ModelConfig, size: Size, error: Exception) -> str:
    return (
        f"model.image_size: {model.name} can't take {size_text(size)} pixels ({first_line(error)}); null chooses the size that "
        "it was made for"
    )


def _pretrained(timm: Any, name: str, published: Any, options: dict[str, Any]) -> nn.Module:
    """Builds a network with the published weights, from the cache of the Hugging Face hub or downloaded into it.

    timm resizes position embeddings to the image size, and ignores a head for other classes.

    Returns:
        The network.

    Raises:
        WeightsError: there are no weights, or they can't be loaded.
    """
    remedy = (
        "either give a file with model.weights=/path/to/model.safetensors, or start from random weights with "
        "model.weights=null"
    )
    if not timm.is_model_pretrained(name):
        raise WeightsError(f"model.weights=DEFAULT: timm publishes no weights for {name}; {remedy}")
    url = f"https://huggingface.co/{published.hf_hub_id}" if published.hf_hub_id else published.url
    overlay = None
    if published.hf_hub_id and not published.custom_load:
        if (cached := _cached(published)) is not None:
            overlay = {"file": cached}
        elif (problem := _unreachable()) is not None:
            raise WeightsError(
                f"model.weights=DEFAULT: timm's {name} can't be downloaded from {url} ({problem}); {remedy}"
            )
    try:
        network: nn.Module = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"model.weights=DEFAULT: timm's {name} can't be loaded from {url} ({first_line(error)}); {remedy}"
        ) from error
    return network


def _cached(published: Any) -> str | None:
    """The weights file in the cache of the hub, if it is there; the hub isn't asked for a newer version."""
    from huggingface_hub import try_to_load_from_cache

    for file in (published.hf_hub_filename, "model.safetensors", "pytorch_model.bin"):
        found = try_to_load_from_cache(published.hf_hub_id, file) if file else None
        if isinstance(found, str):
            return found
    return None


def _unreachable() -> str | None:
    """Why the hub can't be reached, ``None`` if it can; the hub's own client would retry for a minute."""
    from huggingface_hub import constants

    try:
        with urllib.request.urlopen(constants.ENDPOINT, timeout=DOWNLOAD_TIMEOUT):  # noqa: S310 - the hub's own address
            return None
    except urllib.error.HTTPError:
        return None
    except OSError as error:
        return first_line(error)


def _replace_head(network: nn.Module, output: str, model: ModelConfig, n_outputs: int) -> None:
    if not model.dense and not model.dropout:
        return
    parent, _, name = output.rpartition(".")
    old = network.get_submodule(output)
    if isinstance(old, nn.Linear):
        new: nn.Module = nn.Sequential(dense_layers(old.in_features, model.dense, n_outputs, model.dropout))
    elif isinstance(old, nn.Conv2d):
        new = pointwise_head(old.in_channels, model, n_outputs)
    else:
        kind = type(old).__name__
        raise ConfigError(
            [f"model.dense, model.dropout: {model.name} ends with a {kind}, which can't be replaced; leave them out"]
        )
    setattr(network.get_submodule(parent), name, new)


def _staged(network: nn.Module, output: str, size: Size) -> StagedNetwork:
    """Splits a network into as many stages as possible, with the pooling of its head apart from the classifier."""
    holder = output.rpartition(".")[0]
    for opened in ([holder], []) if holder else ([],):
        if (found := find_stages(network, output, size, opened)) is not None:
            names, added = found
            start = next((i for i, name in enumerate(names) if f"{name}.".startswith(f"{output}.")), len(names) - 1)
            return StagedNetwork(network, names, start, added)
    return split_blocks(network, size) or split_head(network, output, size) or StagedNetwork.undivided(network)
