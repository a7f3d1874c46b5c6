"""``raylight more``: how many more images do I need? A sentence, a plot and JSON, from a head on cached features.

Leaves out the curve itself (``learning_curve``).
"""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raylight.config.check import load_config
from raylight.config.schema import RunConfig
from raylight.errors import ConfigError, DataError
from raylight.pipeline.probing.labels import run_config
from raylight.pipeline.probing.settings import PROBE, as_settings, composed
from raylight.runs.run_dir import STATUS_FILE
from raylight.storage.atomic import write_atomically

if TYPE_CHECKING:
    from raylight.pipeline.probing.learning_curve import Curve

FACTORS = (2, 4, 10)
"""Multiples of the number of images for which the accuracy is predicted."""


@dataclass(frozen=True, eq=False)
class More:
    """The accuracy expected with more images.

    Attributes:
        curve: measured and extrapolated.
        network: name of the network that gives the features.
        target: the accuracy to reach; None without one.
    """

    curve: "Curve"
    network: str
    target: float | None

    @property
    def sentence(self) -> str:
        """The answer in a sentence."""
        images = self.curve.sizes[-1]
        parts = [f"{factor * images:,} images {_percent(*self.curve.accuracy(factor * images))}" for factor in FACTORS]
        now = _percent(*self.curve.accuracy(images))
        prediction = (
            f"A head on {self.network}'s features has {now} with the {images:,} images here; {', '.join(parts)}."
        )
        if self.target is None:
            return prediction
        middle, low, high = self.curve.images_for(self.target)
        if middle <= images:
            return f"{prediction} {100 * self.target:g} % is probably reached already."
        if math.isinf(middle):
            return f"{prediction} {100 * self.target:g} % is probably out of reach of this network with any number of images."
        return (
            f"{prediction} {100 * self.target:g} % needs about {_count(middle)} images ({_count(low)} to {_count(high)}), "
            f"{_count(middle - images)} more."
        )

    def as_json(self) -> dict[str, Any]:
        """The content of ``more.json``; null stands for a number of images that is never reached."""
        images = self.curve.sizes[-1]
        found: dict[str, Any] = {
            "network": self.network,
            "measured": [
                {"images": size, "accuracy": 1 - error}
                for size, error in zip(self.curve.sizes, self.curve.errors, strict=True)
            ],
            "predicted": [
                dict(
                    zip(
                        ("images", "accuracy", "low", "high"),
                        (f * images, *self.curve.accuracy(f * images)),
                        strict=True,
                    )
                )
                for f in (1, *FACTORS)
            ],
            "sentence": self.sentence,
        }
        if self.target is not None:
            needed = [None if math.isinf(one) else round(one) for one in self.curve.images_for(self.target)]
            found["target"] = {"accuracy": self.target, **dict(zip(("images", "low", "high"), needed, strict=True))}
        return found


def report_more(target: str, words: Sequence[str], accuracy: float | None, out: Path | None) -> int:
    """Print the sentence; write ``more.json`` and ``more.png``.

    Args:
        target: a run, a folder of images, or a setting such as ``data=NAME``.
        words: settings of the data and the model.
        accuracy: to reach, 0 to 1; None for no target.
        out: folder for the files; None prints only.

    Returns:
        0.

    Raises:
        RaylightError: there are too few images, or no pretrained network.
    """
    if accuracy is not None and not 0 < accuracy < 1:
        raise ConfigError([f"--accuracy {accuracy:g}: expected a number between 0 and 1, such as 0.95"])
    folder = Path(target).expanduser()
    is_run = (folder / STATUS_FILE).is_file()
    config = run_config(folder, words) if is_run else load_config(composed([*PROBE, *as_settings([target, *words])]))
    if config.model.weights is None:
        raise ConfigError(
            [
                f"model.weights: {config.model.name} has none, and a head on random features doesn't show the effect of more; "
                "name a pretrained network: raylight more data=NAME model=resnet18 model.weights=FILE"
            ]
        )
    found = more_of(config, accuracy)
    lines = [found.sentence]
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        content = json.dumps(found.as_json(), indent=2) + "\n"
        lines += [str(write_atomically(out / "more.json", content.encode())), str(_plot(found, out / "more.png"))]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def more_of(config: RunConfig, accuracy: float | None) -> More:
    """Measure the learning curve of a probe on the train and validation images.

    Args:
        config: of a probe.
        accuracy: to reach; None for no target.

    Raises:
        RaylightError: the images or the network can't be used.
    """
    from raylight.pipeline.probing.learning_curve import learning_curve
    from raylight.pipeline.probing.probes import features_of_all

    images, features = features_of_all(config, with_test=False)
    try:
        curve = learning_curve(features, images.targets, len(images.part.class_names), images.groups)
    except ValueError as error:
        raise DataError(f"{images.part.root}: {error}") from error
    return More(curve, config.model.name, accuracy)


def _percent(middle: float, low: float, high: float) -> str:
    return f"{100 * middle:.1f} % ({100 * low:.1f} to {100 * high:.1f})"


def _count(images: float) -> str:
    if math.isinf(images):
        return "never"
    digits = max(0, math.floor(math.log10(max(images, 1))) - 1)
    return f"{round(images, -digits):,.0f}"


def _plot(found: More, path: Path) -> Path:
    import numpy as np

    from raylight.report.figures.style import BLUE, INK, panel, save, set_title

    figure, ax = panel(4.0)
    sizes, images = found.curve.sizes, found.curve.sizes[-1]
    along = np.geomspace(sizes[0], max(FACTORS) * images, 60)
    middle, low, high = np.array([found.curve.accuracy(size) for size in along]).T
    ax.fill_between(along, low, high, color=BLUE, alpha=0.18, linewidth=0)
    ax.plot(along, middle, color=BLUE)
    ax.plot(sizes, [1 - error for error in found.curve.errors], "o", color=INK)
    ax.set_xscale("log")
    ax.xaxis.set_major_formatter("{x:,.0f}")
    ax.set_xlabel("images to learn from")
    ax.set_ylabel("accuracy")
    set_title(ax, "Accuracy by number of images, with its 95 % interval")
    return save(figure, path)
