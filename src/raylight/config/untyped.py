"""Defaults that depend on the data: how images are read and augmented, and which network is trained, if nothing is typed.

The choice is added to the command line, so that ``--cfg job`` shows it. Nothing is chosen for the demo, whose drawings a small
network learns in seconds, nor for published experiments, runs to resume and whole configs.
"""

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from raylight.config.quoting import quoted
from raylight.config.rules.pretrained import weights_in

PRETRAINED = {"mobilenet_v2": "mobilenet_v2-7ebf99e0.pth", "resnet18": "resnet18-f37072fd.pth"}
"""Networks to choose from, the one with the better results first (``experiments/recipes``), and the file of
each one's default weights."""
SMALL = "cnn5"
"""The network that is trained from random weights if no pretrained ones are available."""
PLACE = "https://download.pytorch.org/models/"
PATIENCE = 5.0
"""Seconds to wait for that server."""

_WHOLE = ("experiment", "run", "resume")
_KINDS = {".parquet": "parquet", ".tar": "tar"}


def with_choices(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Adds the choices that a command line leaves open.

    Args:
        arguments: what follows ``train.py``, flags first.

    Returns:
        The arguments, the added ones last; and a sentence about the network if one was chosen.
    """
    typed = dict(_pairs(arguments))
    if any(key in typed for key in _WHOLE) or any(word.startswith(("--config-", "-cn", "-cp")) for word in arguments):
        return [*arguments], []
    added, sentences = [], []
    if "data" not in typed and (root := typed.get("data.root", typed.get("data.csv"))):
        typed["data"], name = _KINDS.get(Path(root).suffix.lower(), "folder"), Path(root).stem
        added.append(f"data={typed['data']}")
    elif hub := typed.get("data.source.name") if typed.get("data", "hub") == "hub" else None:
        name = hub.rpartition("/")[2] if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", hub) else ""
        added += [] if "data" in typed else ["data=hub"]
        typed["data"] = "hub"
    else:
        name = ""
    if "data.name" not in typed and re.fullmatch(r"[A-Za-z][\w-]{0,63}", name, re.ASCII):
        added.append(f"data.name={name}")
    names_model = "model" in typed or any(key in typed for key in ("model.name", "model.family", "model._target_"))
    weights = typed.get("model.weights", "DEFAULT")
    if not names_model and typed.get("data", "demo") != "demo" and (found := _network(weights)):
        settings, sentence = found
        added += settings
        sentences.append(sentence)
    if typed.get("data.medical", "").lower() == "true" and "augment" not in typed:
        added.append("augment=xray")
        sentences.append("augment=xray: medical images are never mirrored; augment=NAME takes another.")
    return [*arguments, *added], sentences


def _pairs(arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    for word in arguments:
        key, equals, value = word.partition("=")
        if equals and not key.startswith(("-", "~")):
            yield key.lstrip("+"), value.strip("'\"")


def _network(weights: str) -> tuple[list[str], str] | None:
    """Settings of the network, and why it is chosen; ``None`` if the name of the weights doesn't tell which network it is."""
    if weights == "null":
        return [f"model={SMALL}"], f"model={SMALL}: a small network, since model.weights=null asks for random weights."
    if weights != "DEFAULT":
        path = Path(weights).expanduser()
        fits = [
            name for name in PRETRAINED if (weights_in(path, name) if path.is_dir() else path.name.startswith(name))
        ]
        if not fits:
            return None
        return [f"model={fits[0]}"], f"model={fits[0]}: pretrained, with {weights}; model=NAME takes another."
    cache = torch_cache()
    for name, file in PRETRAINED.items():
        if (cache / file).is_file():
            return [f"model={name}"], f"model={name}: pretrained, its weights are in {cache}; model=NAME takes another."
        if (older := weights_in(cache, name)) is not None:
            sentence = f"model={name}: pretrained, with {older}, which isn't the newest file; model=NAME takes another."
            return [f"model={name}", f"model.weights={quoted(str(older))}"], sentence
    best = next(iter(PRETRAINED))
    if problem := _unreachable():
        return [f"model={SMALL}"], (
            f"model={SMALL}: a small network from random weights, since there are no published ones in {cache}, and {PLACE} "
            f"can't be reached ({problem}). A pretrained network learns more from few images: copy its file here and give "
            f"model={best} model.weights=FILE."
        )
    return [f"model={best}"], f"model={best}: pretrained, its weights come from {PLACE}; model=NAME takes another."


def torch_cache() -> Path:
    """The folder of torch's downloads, like ``torch.hub.get_dir``, but without importing torch, which takes a second."""
    home = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return Path(os.environ.get("TORCH_HOME", f"{home}/torch")).expanduser() / "hub" / "checkpoints"


def _unreachable() -> str | None:
    import urllib.error
    import urllib.request

    try:
        with urllib.request.urlopen(urllib.request.Request(PLACE, method="HEAD"), timeout=PATIENCE):
            return None
    except urllib.error.HTTPError:
        return None  # it answers; the folder itself has no page
    except OSError as error:
        return str(getattr(error, "reason", error))
