"""Candidates for ``raylight rank``: networks whose weights are in torch's cache, the hub's or a folder, or named ones."""

import importlib
import importlib.util
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from raylight.config.command_line import shell_setting
from raylight.config.rules.pretrained import timm_models, weights_in
from raylight.config.untyped import torch_cache
from raylight.errors import ConfigError, WeightsError, did_you_mean
from raylight.installation import OPTION_FILES

RANDOM = ":random"
"""Suffix of a network's name for random weights, to see their effect."""
_SUFFIXES = (".safetensors", ".pt", ".pth")


@dataclass(frozen=True)
class Candidate:
    """A network to be ranked.

    Attributes:
        name: of the classifier in its family.
        family: ``torchvision`` or ``timm``.
        weights: ``DEFAULT``, the path of a file, or None for random ones.
    """

    name: str
    family: str
    weights: str | None

    @property
    def option(self) -> str:
        """The option of ``conf/model`` that makes it."""
        own = self.family == "torchvision" and (OPTION_FILES / "model" / f"{self.name}.yaml").is_file()
        return self.name if own else self.family

    @property
    def typed(self) -> str:
        """The settings that select it, as typed in a shell."""
        words = [f"model={self.option}"]
        words += [] if self.option == self.name else [shell_setting("model.name", self.name)]
        words += [] if self.weights == "DEFAULT" else [shell_setting("model.weights", self.weights or "null")]
        words += ["finetune=recommended"] if self.family == "timm" else []
        return " ".join(words)


def candidates(named: Sequence[str], weights: str | None) -> tuple[Candidate, ...]:
    """The named networks, else all whose weights are available locally.

    Args:
        named: names of torchvision's and timm's classifiers; with ``RANDOM`` behind one it isn't given its weights.
        weights: ``model.weights`` as typed: a folder of files with the networks' names, ``DEFAULT``, ``null``, or None.

    Raises:
        ConfigError: there is no such network or folder.
        WeightsError: no network is named and none available.
    """
    folder = None if weights in (None, "DEFAULT", "null") else Path(str(weights)).expanduser()
    if folder is not None and not folder.is_dir():
        raise ConfigError(
            [f"model.weights: {weights} is no folder; expected one with files by networks' names, such as resnet18.pt"]
        )
    if named:
        return tuple(dict.fromkeys(_named(name, folder, all_random=weights == "null") for name in named))
    found = {one.name: one for one in (*_in_hub_cache(), *_in_torch_cache(), *(_in_folder(folder) if folder else ()))}
    if not found:
        places = " and ".join(filter(None, [str(torch_cache()), str(folder) if folder else None]))
        raise WeightsError(
            f"No pretrained network is available: {places} has no weights of a classifier of torchvision or timm. Put "
            "files with networks' names (resnet18.pt) into a folder and set model.weights=FOLDER, or name downloads: "
            "models=resnet18,..."
        )
    return tuple(found[name] for name in sorted(found))


def _named(text: str, folder: Path | None, *, all_random: bool) -> Candidate:
    name = text.removesuffix(RANDOM)
    family = "torchvision" if name in _torchvision_names() else "timm"
    if family == "timm":
        try:
            timm_models(name)
        except ConfigError as error:
            guess = did_you_mean(name, _torchvision_names())
            raise ConfigError([f"models: torchvision has no classifier {name!r}{guess}", *error.problems]) from error
    if all_random or name != text:
        return Candidate(name, family, None)
    file = weights_in(folder, name) if folder else None
    if file is None and family == "torchvision":
        return next((one for one in _cached(name)), Candidate(name, family, "DEFAULT"))
    return Candidate(name, family, str(file) if file else "DEFAULT")


def _torchvision_names() -> list[str]:
    models = importlib.import_module("torchvision.models")
    names: list[str] = models.list_models(module=models)
    return names


def _in_torch_cache() -> Iterator[Candidate]:
    if torch_cache().is_dir():
        for name in _torchvision_names():
            yield from _cached(name)


def _cached(name: str) -> Iterator[Candidate]:
    """A torchvision classifier whose published weights have been downloaded, the default ones first."""
    published = importlib.import_module("torchvision.models").get_model_weights(name)
    for weights in sorted(published, key=lambda one: one is not published.DEFAULT):
        file = torch_cache() / Path(weights.url).name
        if file.is_file():
            yield Candidate(name, "torchvision", "DEFAULT" if weights is published.DEFAULT else str(file))
            return


def _in_hub_cache() -> Iterator[Candidate]:
    """Classifiers of timm whose weights the Hugging Face hub's cache holds."""
    if importlib.util.find_spec("timm") is None:
        return
    from huggingface_hub import constants, try_to_load_from_cache

    folders = sorted(Path(constants.HF_HUB_CACHE).glob("models--timm--*"))
    for folder in folders:
        name = folder.name.removeprefix("models--timm--")
        files = (try_to_load_from_cache(f"timm/{name}", file) for file in ("model.safetensors", "pytorch_model.bin"))
        if any(isinstance(file, str) for file in files) and _timm_has(name):
            yield Candidate(name, "timm", "DEFAULT")


def _in_folder(folder: Path) -> Iterator[Candidate]:
    known = set(_torchvision_names())
    for file in sorted(folder.iterdir()):
        if file.suffix in _SUFFIXES and file.is_file():
            for name in (file.stem, file.stem.rpartition("-")[0]):
                if name in known or _timm_has(name):
                    yield Candidate(name, "torchvision" if name in known else "timm", str(file.absolute()))
                    break


def _timm_has(name: str) -> bool:
    if not name or importlib.util.find_spec("timm") is None:
        return False
    try:
        timm_models(name)
    except ConfigError:
        return False
    return True
