"""The preprocessing that belongs to a network's weights: size, crop, interpolation, mean and standard deviation.

Each of them comes from the first of these that specifies it: the setting that the user typed; the run whose weights are used;
torchvision's or timm's published weights of the architecture; the defaults of a small network. Nothing heavy is imported,
except torchvision and timm for their own classifiers.
"""

import dataclasses
import importlib
import importlib.util
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from omegaconf import Container, OmegaConf

from raylight.config.rules.shapes import Size, height_width, read_size
from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError, did_you_mean
from raylight.installation import install_command

Triple = tuple[float, float, float]

STATISTICS: dict[str, tuple[Triple, Triple]] = {
    "unit": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
    "centered": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
    # Of ImageNet's training images: https://docs.pytorch.org/vision/stable/models.html
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
"""Mean and standard deviation of red, green and blue on the scale 0 to 1, by the words of ``model.normalize``."""

CROP_RATIO = 8 / 7
"""Default ratio of the shorter side to the cropped centre: 256 to 224 pixels, as in the first evaluations on ImageNet."""


@dataclass(frozen=True)
class ModelInput:
    """The input of a network.

    Attributes:
        size: height and width, in pixels; one number where they are equal.
        resize: ``stretch``, ``crop`` or ``pad``, see ``data.decode``.
        mean: of red, green and blue on the scale 0 to 1, which is subtracted.
        std: standard deviation of red, green and blue, by which pixels are divided.
        resize_size: with ``crop``, length in pixels that the shorter side is resized to; ``None``: 8/7 of the size.
        interpolation: ``bilinear`` or ``bicubic``.
    """

    size: Size
    resize: str
    mean: Triple
    std: Triple
    resize_size: int | None = None
    interpolation: str = "bilinear"

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Reads the content of ``preprocessing.json``; in older runs, the last two values are missing."""
        resize_size = values.get("resize_size")
        return cls(
            size=read_size(values["size"]),
            resize=str(values["resize"]),
            mean=_triple(values["mean"]),
            std=_triple(values["std"]),
            resize_size=None if resize_size is None else int(resize_size),
            interpolation=str(values.get("interpolation", "bilinear")),
        )


def model_input(model: ModelConfig) -> ModelInput:
    """Determines the input of a network.

    Args:
        model: its settings; those that are null come from the weights.

    Returns:
        The input.

    Raises:
        ConfigError: ``model.image_size`` or ``model.normalize`` can't be read.
    """
    known = _of_run(model.weights) or _of_published(model) or ModelInput(64, "stretch", *STATISTICS["unit"])
    size = known.size if model.image_size is None else read_size(model.image_size)
    resize = known.resize if model.resize is None else model.resize
    resize_size = model.resize_size
    if resize_size is None and known.resize_size is not None and resize == known.resize:
        resize_size = round(min(height_width(size)) * known.resize_size / min(height_width(known.size)))
    elif resize_size is None and resize == "crop":
        resize_size = round(min(height_width(size)) * CROP_RATIO)
    mean, std = (known.mean, known.std) if model.normalize is None else _statistics(model.normalize)
    return ModelInput(size, resize, mean, std, resize_size, model.interpolation or known.interpolation)


def filled(model: ModelConfig) -> ModelConfig:
    """The same settings without nulls for the input, and with the file of the weights instead of a folder of several."""
    model = dataclasses.replace(model, weights=_file_of(model))
    shown = model_input(model)
    named = [name for name, statistics in STATISTICS.items() if statistics == (shown.mean, shown.std)]
    return dataclasses.replace(
        model,
        image_size=shown.size if isinstance(shown.size, int) else list(shown.size),
        resize=shown.resize,
        resize_size=shown.resize_size,
        interpolation=shown.interpolation,
        normalize=named[0] if named else {"mean": list(shown.mean), "std": list(shown.std)},
    )


def fill(typed: Container) -> None:
    """Writes the preprocessing of the weights into a typed config, so that ``${model.image_size}`` has a value.

    Args:
        typed: a config of the whole schema; changed in place.

    Raises:
        ConfigError: ``model.image_size`` or ``model.normalize`` can't be read.
    """
    model = OmegaConf.to_object(OmegaConf.select(typed, "model"))
    assert isinstance(model, ModelConfig)
    complete = filled(model)
    for name in ("weights", "image_size", "resize", "resize_size", "interpolation", "normalize"):
        OmegaConf.update(typed, f"model.{name}", getattr(complete, name), merge=False)


def weights_in(folder: Path, name: str) -> Path | None:
    """Finds the weights of a network in a folder of several: ``NAME.pt``, or ``NAME-f37072fd.pth`` as in torch's cache.

    Args:
        folder: searched without its subfolders; needn't exist.
        name: of the network.

    Returns:
        The file; ``None`` if there is none.
    """
    files = [file for file in sorted(folder.glob(f"{name}*")) if file.suffix in (".safetensors", ".pt", ".pth")]
    return next((file for file in files if file.stem == name or file.stem.startswith(f"{name}-")), None)


def _file_of(model: ModelConfig) -> str | None:
    if model.weights in (None, "DEFAULT"):
        return model.weights
    folder = Path(str(model.weights)).expanduser()
    found = weights_in(folder, model.name) if folder.is_dir() and run_of(model.weights) is None else None
    return str(found) if found else model.weights


def run_of(weights: str | None) -> Path | None:
    """The run folder that ``model.weights`` names, or that contains the file it names; ``None`` if there is none."""
    if weights in (None, "DEFAULT"):
        return None
    path = Path(str(weights)).expanduser()
    beside = path.parent.parent if path.parent.name == "checkpoints" else path.parent
    return next((folder for folder in (path, beside) if (folder / "preprocessing.json").is_file()), None)


def torchvision_models(name: str) -> Any:
    """Checks that torchvision has a classifier.

    Args:
        name: of the classifier.

    Returns:
        The module ``torchvision.models``.

    Raises:
        ConfigError: it has no such classifier.
    """
    models = importlib.import_module("torchvision.models")
    known = models.list_models(module=models)
    if name not in known:
        hint = did_you_mean(name, known) or f"; one of: {', '.join(known)}"
        raise ConfigError([f"model.name: torchvision has no classifier {name!r}{hint}"])
    return models


def timm_models(name: str) -> Any:
    """Checks that timm has a classifier.

    Args:
        name: of the classifier, with or without the tag of its weights (``convnext_tiny.fb_in22k``).

    Returns:
        The module ``timm``.

    Raises:
        ConfigError: it has no such classifier or weights, or isn't installed.
    """
    if importlib.util.find_spec("timm") is None:
        raise ConfigError([f"model.family: timm isn't installed; install it with: {install_command('timm')}"])
    timm = importlib.import_module("timm")
    architecture, _, tag = name.partition(".")
    if not timm.is_model(architecture):
        known = timm.list_models()
        hint = did_you_mean(architecture, known) or f"; timm.list_models('*PART*') lists its {len(known):,}"
        raise ConfigError([f"model.name: timm has no classifier {architecture!r}{hint}"])
    if tag:
        tags = [published.partition(".")[2] for published in timm.list_models(f"{architecture}.*", pretrained=True)]
        if tag not in tags:
            hint = did_you_mean(tag, tags) or f"; it has {', '.join(tags) or 'none'}"
            raise ConfigError([f"model.name: timm has no weights {tag!r} of {architecture}{hint}"])
    return timm


def _of_run(weights: str | None) -> ModelInput | None:
    run = run_of(weights)
    if run is None:
        return None
    try:
        return ModelInput.from_dict(json.loads((run / "preprocessing.json").read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            [f"model.weights: {run / 'preprocessing.json'}, the preprocessing of the weights, can't be read ({error})"]
        ) from error


def _of_published(model: ModelConfig) -> ModelInput | None:
    published = {"torchvision": _of_torchvision, "timm": _of_timm}.get(model.family)
    try:
        return published(model) if published else None
    except ConfigError:
        return None  # building the network raises it again, together with other problems


def _of_torchvision(model: ModelConfig) -> ModelInput:
    """The input of the published weights in a file, by its name, else of the architecture's DEFAULT."""
    published = torchvision_models(model.name).get_model_weights(model.name)
    file = Path(str(model.weights)).name
    weights = next((some for some in published if some.url.endswith(f"/{file}")), published.DEFAULT)
    shown = weights.transforms()
    (size,), (resize_size,) = shown.crop_size, shown.resize_size
    return ModelInput(size, "crop", _triple(shown.mean), _triple(shown.std), resize_size, shown.interpolation.value)


def _of_timm(model: ModelConfig) -> ModelInput:
    """The input that ``timm.data.create_transform`` makes for evaluation."""
    published = timm_models(model.name).get_pretrained_cfg(model.name)
    _, *sides = published.input_size
    size = read_size(sides)
    resize = {"squash": "stretch", "border": "pad"}.get(published.crop_mode, "crop")
    resized = math.floor(min(sides) / (published.crop_pct or 1 / CROP_RATIO))
    mean, std = _triple(published.mean), _triple(published.std)
    return ModelInput(
        size,
        resize,
        mean,
        std,
        None if resize != "crop" and resized == min(sides) else resized,
        published.interpolation,
    )


def _statistics(normalize: Any) -> tuple[Triple, Triple]:
    if isinstance(normalize, str) and normalize in STATISTICS:
        return STATISTICS[normalize]
    try:
        mean, std = _triple(normalize["mean"]), _triple(normalize["std"])
        if min(std) > 0 and len(normalize) == 2:
            return mean, std
    except (KeyError, TypeError, ValueError, AttributeError):
        pass
    raise ConfigError(
        [
            f"model.normalize: {normalize!r} is not one of {', '.join(STATISTICS)}, nor "
            "{mean: [RED, GREEN, BLUE], std: [RED, GREEN, BLUE]} on the scale 0 to 1"
        ]
    )


def _triple(values: Any) -> Triple:
    red, green, blue = values
    return float(red), float(green), float(blue)
