"""The pictures of a run's report: which images to show, their pixels, and Grad-CAM.

Pixels come from the original files, decoded as for the network, only larger; a file that is missing or has changed since
the run is left out and counted. Leaves out the layout of a page.
"""

import base64
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Int64, UInt8

from raylight.config.rules.shapes import height_width
from raylight.data.decode.image import decode_image
from raylight.data.decode.spec import DecodeSpec
from raylight.data.index import Index
from raylight.errors import BadImageError, RunError
from raylight.evaluation.predictions import Predictions
from raylight.models.gradcam import grad_cam
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.report.facts import RunFacts

if TYPE_CHECKING:
    from PIL.Image import Image

VIEW = 256
"""Height and width of a picture beside its prediction, in pixels."""

SAMPLE = 160
"""Height and width of a sample of the data, in pixels."""


NEIGHBOURS_FILE = "neighbours.json"
"""The nearest training images of some test images, by the network's features: path and class."""

NEIGHBOURS_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Example:
    """A test image with its prediction.

    Attributes:
        path: relative to the data's root.
        label: its class.
        predicted: the predicted class.
        probability: of the predicted class.
        right: whether it is the label.
        pixels: None where the file can't be read.
        heated: the same overlaid with its Grad-CAM heat map; None without one.
    """

    path: str
    label: str
    predicted: str
    probability: float
    right: bool
    pixels: UInt8[np.ndarray, "size size 3"] | None
    heated: UInt8[np.ndarray, "size size 3"] | None

    @cached_property
    def picture(self) -> str | None:
        """The pixels as a data URI."""
        return None if self.pixels is None else jpeg(self.pixels)

    @cached_property
    def heat(self) -> str | None:
        """The overlaid pixels as a data URI."""
        return None if self.heated is None else jpeg(self.heated)


@dataclass
class OriginalFiles:
    """The image files of a run's index, if they are still there and unchanged.

    Attributes:
        index: of the run.
        shape: how the network's images are resized.
        missing: number of pictures that couldn't be shown, by reason.
    """

    index: Index
    shape: DecodeSpec
    missing: Counter[str] = field(default_factory=Counter)
    _hashes: dict[str, str | None] = field(init=False)

    def __post_init__(self) -> None:
        self._hashes = dict(zip(self.index.column("path"), self.index.column("sha256"), strict=True))

    def content(self, path: str) -> bytes | None:
        """Read a file's bytes; None if it is missing or has changed since it was indexed."""
        try:
            content = (self.index.root / path).read_bytes()
        except OSError as error:
            self.missing[error.strerror or type(error).__name__] += 1
            return None
        if hashlib.sha256(content).hexdigest() != self._hashes.get(path):
            self.missing["changed since the run"] += 1
            return None
        return content

    def pixels(self, path: str, size: int) -> UInt8[np.ndarray, "height width 3"] | None:
        """Decode an image as for the network, but with ``size`` pixels on its longer side; None if it can't be shown."""
        decoded = self.in_sizes(path, size)
        return None if decoded is None else decoded[0]

    def in_sizes(self, path: str, *sizes: int) -> list[UInt8[np.ndarray, "height width 3"]] | None:
        """Read an image once and decode it with each of ``sizes`` pixels on its longer side.

        Returns:
            One array per size; None if the image can't be shown.
        """
        content = self.content(path)
        if content is None:
            return None
        try:
            return [decode_image(content, self.shape.at(size)) for size in sizes]
        except BadImageError as error:
            self.missing[str(error)] += 1
            return None

    @property
    def missing_words(self) -> str | None:
        """A sentence on the pictures that couldn't be shown; None if there were none."""
        if not self.missing:
            return None
        n = sum(self.missing.values())
        reasons = "; ".join(f"{reason}: {count}" for reason, count in self.missing.most_common(3))
        return (
            f"{n} picture{'s' * (n > 1)} can't be shown: the originals in {self.index.root} can't be read ({reasons})."
        )


def sample_paths(index: Index, per_class: int, classes: Iterable[str], seed: int = 0) -> dict[str, list[str]]:
    """Sample training images of each class at random, the same ones for the same files and seed."""
    train = index.in_split("train")
    of_class: dict[str, list[str]] = {name: [] for name in classes}
    for path, label in zip(train.column("path"), train.column("label"), strict=True):
        if label in of_class:
            of_class[label].append(path)
    rng = np.random.default_rng(seed)
    return {
        name: [paths[i] for i in rng.permutation(len(paths))[:per_class]]
        for name, paths in ((name, sorted(paths)) for name, paths in of_class.items())
    }


def notable_images(
    test: Predictions, threshold: float | None, each: int = 6, seed: int = 0
) -> dict[str, Int64[np.ndarray, " image"]]:
    """Choose test images to show: confident errors, uncertain and correct ones, each at most once.

    Args:
        test: predictions, all of known class.
        threshold: on the positive class's probability; None stands for 0.5.
        each: maximum number of images of each kind.
        seed: of the sample of correct ones.

    Returns:
        ``errors``, the most confident first; ``uncertain``, those nearest to the decision boundary, whether right or
        wrong; ``correct``, sampled at random, balanced over the classes.
    """
    predicted = test.predicted(threshold)
    right = predicted == test.labels
    confidence = test.probabilities[np.arange(len(test)), predicted]
    wrong = np.flatnonzero(~right)
    errors = wrong[np.argsort(-confidence[wrong], kind="stable")][:each]
    if len(test.class_names) == 2:
        margin = np.abs(test.probabilities[:, test.positive] - (0.5 if threshold is None else threshold))
    else:
        best = np.sort(test.probabilities, axis=1)
        margin = best[:, -1] - best[:, -2]
    nearest = np.argsort(margin, kind="stable")
    uncertain = nearest[~np.isin(nearest, errors)][:each]
    drawn = np.random.default_rng(seed).permutation(len(test))
    drawn = drawn[right[drawn] & ~np.isin(drawn, uncertain)]
    turn = np.zeros(len(drawn), np.int64)  # the first of each class, then the second of each, ...
    for k in np.unique(test.labels[drawn]):
        turn[test.labels[drawn] == k] = np.arange((test.labels[drawn] == k).sum())
    correct = drawn[np.argsort(turn, kind="stable")][:each]
    return {"errors": errors, "uncertain": uncertain, "correct": correct}


@dataclass(frozen=True, eq=False)
class Gallery:
    """The notable test images of a run, decoded and explained once for its page and its dashboard.

    Attributes:
        facts: of a run with results.
        network: with the chosen weights, for Grad-CAM; None leaves it out.
        each: maximum number of images of each kind.
    """

    facts: RunFacts
    network: StagedNetwork | None = None
    each: int = 6

    @cached_property
    def files(self) -> OriginalFiles:
        """The run's image files."""
        return OriginalFiles(self.facts.index, self.facts.preprocessing.decode_spec)

    @cached_property
    def chosen(self) -> dict[str, Int64[np.ndarray, " image"]]:
        """Positions of the images among the test images, by kind; see ``notable_images``."""
        return notable_images(self.facts.test, self.facts.threshold, self.each)

    @property
    def examples(self) -> dict[str, list[Example]]:
        """Images by kind: ``errors``, ``uncertain``, ``correct``."""
        return self._shown[0]

    @property
    def no_heat(self) -> str | None:
        """Why there is no Grad-CAM, in a sentence; None if there is."""
        return self._shown[1]

    @cached_property
    def _shown(self) -> tuple[dict[str, list[Example]], str | None]:
        facts, network, no_heat = self.facts, self.network, None

        def found(network: StagedNetwork | None) -> dict[str, list[Example]]:
            return {
                kind: examples(facts.test, facts.threshold, rows, self.files, network, facts.preprocessing)
                for kind, rows in self.chosen.items()
            }

        if not facts.config.report.gradcam:
            network, no_heat = None, "Grad-CAM was switched off (report.gradcam=false)."
        elif network is None:
            no_heat = "This report was written without the network, so Grad-CAM is missing."
        try:
            return found(network), no_heat
        except RunError as error:  # a network without a feature map
            self.files.missing.clear()
            return found(None), str(error)


def examples(
    test: Predictions,
    threshold: float | None,
    chosen: Sequence[int] | Int64[np.ndarray, " image"],
    files: OriginalFiles,
    network: StagedNetwork | None,
    preprocessing: Preprocessing,
) -> list[Example]:
    """Gather test images with their pictures and, with a network, its Grad-CAM heat map for the predicted class.

    Raises:
        RunError: the network has no feature map for Grad-CAM.
    """
    predicted = test.predicted(threshold)
    sizes = [VIEW] if network is None else [VIEW, max(height_width(preprocessing.size))]
    decoded = {i: pixels for i in map(int, chosen) if (pixels := files.in_sizes(test.paths[i], *sizes)) is not None}
    heated = {}
    if network is not None and decoded:
        seen = np.stack([pixels[1] for pixels in decoded.values()])
        heat = heat_of(network, preprocessing, seen, predicted[list(decoded)])
        heated = {i: overlaid(decoded[i][0], heat[place]) for place, i in enumerate(decoded)}
    return [
        Example(
            path=test.paths[i],
            label=test.class_names[test.labels[i]],
            predicted=test.class_names[predicted[i]],
            probability=float(test.probabilities[i, predicted[i]]),
            right=bool(predicted[i] == test.labels[i]),
            pixels=decoded[i][0] if i in decoded else None,
            heated=heated.get(i),
        )
        for i in map(int, chosen)
    ]


def heat_of(
    network: StagedNetwork,
    preprocessing: Preprocessing,
    pixels: UInt8[np.ndarray, "image height width 3"],
    classes: Int64[np.ndarray, " image"],
) -> Float[np.ndarray, "image height width"]:
    """Compute the Grad-CAM heat map, 0 to 1, of decoded images, each for a class."""
    import torch

    return grad_cam(network, preprocessing.normalise(torch.from_numpy(pixels)), classes)


def overlaid(
    pixels: UInt8[np.ndarray, "height width 3"], heat: Float[np.ndarray, "rows columns"]
) -> UInt8[np.ndarray, "height width 3"]:
    """Overlay a picture in grey with a heat map, from violet (little) to yellow (most).

    Args:
        pixels: the picture.
        heat: 0 to 1, of any size.
    """
    from matplotlib import colormaps
    from PIL import Image

    height, width = pixels.shape[:2]
    level = np.asarray(Image.fromarray(heat.astype(np.float32)).resize((width, height), Image.Resampling.BILINEAR))
    level = np.clip(level, 0, 1)[..., None]
    grey = np.asarray(Image.fromarray(pixels).convert("L"), np.float32)[..., None] * 0.85
    colour = colormaps["inferno"](0.25 + 0.7 * level[..., 0])[..., :3] * 255
    opacity = 0.7 * level**0.8
    mixed: UInt8[np.ndarray, "height width 3"] = (grey * (1 - opacity) + colour * opacity).astype(np.uint8)
    return mixed


def jpeg(pixels: UInt8[np.ndarray, "height width 3"]) -> str:
    """Encode pixels as the data URI of a JPEG file."""
    from PIL import Image

    return _data_uri(Image.fromarray(pixels), "jpeg", quality=82, optimize=True)


def chart(content: bytes) -> tuple[str, int, int]:
    """Encode a PNG chart as a data URI in 128 colours, a third of the size; with width and height.

    Of Pillow's quantisation methods the octree takes a quarter of the time, with files no larger.

    Raises:
        OSError: it isn't an image.
    """
    from PIL import Image

    with Image.open(io.BytesIO(content)) as picture:
        small = picture.convert("RGB").quantize(128, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
        return _data_uri(small, "png"), picture.width, picture.height


def _data_uri(picture: "Image", kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
