"""Shortcuts: the accuracy of a network on test images without the content that it should rely on.

The network isn't retrained. Its test images are shown to it with a black centre, with only the border, and at 8 x 8
pixels. In addition, a logistic regression on the grey histogram is fitted on the training images. Where these are clearly
better than chance, the result may rest on something other than the content of the images: a hospital's marks, the border, the
exposure. Grad-CAM adds which share of the evidence lies in the border. Leaves out where the pixels come from, and the page
(``report.run_page``).
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from raylight.auditing.metadata_baseline import percent
from raylight.data.index import GREY
from raylight.errors import RunError
from raylight.evaluation.bootstrap import sampled_positions
from raylight.evaluation.differences.paired import proportion_difference
from raylight.evaluation.intervals import Interval, Z, proportion
from raylight.evaluation.predictions import LabelledPredictions
from raylight.models.gradcam import border_share, grad_cam
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork

CENTRE = 0.6
"""Share of the height and width that is made black: 36 % of the image."""

BORDER = 0.1
"""Width of the border, as a share of height and width: 36 % of the image."""

COARSE = 8
"""Pixels per side that leave hardly more than light and dark."""

BINS = 32
"""Bins of the grey histogram."""

HEAT_MAPS = 200
"""Maximum number of images for Grad-CAM."""

IMAGES = 1000
"""Maximum number of test images, and of training images."""

FILE = "shortcuts.json"

Pixels = UInt8[np.ndarray, "image height width 3"]
Predict = Callable[[Pixels], Int[np.ndarray, " image"]]


@dataclass(frozen=True)
class Check:
    """One measurement with its interval and interpretation.

    Attributes:
        name: for programs, such as ``centre_black``.
        title: what the network was shown.
        value: 0 to 1: accuracy, or for ``gradcam_border`` a share of evidence.
        low: lower bound of its 95 % interval.
        high: upper bound.
        n: images.
        suspicious: whether it is clearly better than chance (for Grad-CAM, clearly more than evenly spread).
        sentence: the interpretation.
    """

    name: str
    title: str
    value: float
    low: float
    high: float
    n: int
    suspicious: bool
    sentence: str


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """A network's training images, or a sample of them.

    Attributes:
        pixels: of the images, as decoded.
        labels: their classes.
    """

    pixels: Pixels
    labels: Int[np.ndarray, " image"]


@dataclass(frozen=True)
class Shortcuts:
    """All checks of a network.

    Attributes:
        real: its accuracy on the test images as they are.
        chance: share of the most frequent class among the test images.
        checks: the other measurements.
        note: why a check is missing; empty if none is.
    """

    real: Check
    chance: float
    checks: tuple[Check, ...]
    note: str

    def as_json(self) -> dict[str, Any]:
        """The content of ``shortcuts.json``."""
        return asdict(self)


def check_shortcuts(
    predict: Predict,
    test: Pixels,
    labelled: LabelledPredictions,
    train: TrainingImages,
    network: StagedNetwork | None,
    preprocessing: Preprocessing,
) -> Shortcuts:
    """Measure a network on reduced versions of its test images.

    Args:
        predict: predicts the class of each image, by the network's own threshold.
        test: its test images, as decoded.
        labelled: their labels, predictions and groups.
        train: for the histogram model.
        network: for Grad-CAM; None leaves that out.
        preprocessing: how images reach the network.
    """
    labels, groups = labelled.labels, labelled.groups
    chance = float(np.bincount(labels).max() / len(labels))

    def check(name: str, title: str, predicted: Int[np.ndarray, " image"]) -> Check:
        right = predicted == labels
        low, high = proportion(right, groups)
        value, clearly = float(right.mean()), bool(low > chance)
        needed = proportion_difference(labelled.predicted == labels, right, groups).high < 0
        said = "" if name == "real" else _sentence(name, clearly, percent(value if clearly else high), needed)
        return Check(name, title, value, low, high, len(right), clearly, said)

    real = check("real", "the images as they are", labelled.predicted)
    checks = [
        check(
            "centre_black", f"the middle {CENTRE * 100:.0f} % of height and width black", predict(_centre_black(test))
        ),
        check("border_only", f"only the outermost {BORDER * 100:.0f} % on each side", predict(_border_only(test))),
        check("coarse", f"{COARSE} by {COARSE} pixels", predict(_coarse(test))),
        check(
            "histogram",
            "grey histogram alone (a logistic regression)",
            _histogram_model(train)(test),
        ),
    ]
    note = ""
    if network is None:
        note = "Grad-CAM was left out."
    else:
        try:
            checks.append(_heat_in_border(network, preprocessing, test, labelled.predicted))
        except RunError as error:
            note = str(error)
    return Shortcuts(real, chance, tuple(checks), note)


def shortcut_lines(found: Shortcuts) -> list[str]:
    """Format the checks for the terminal."""
    rows = [
        f"  {check.title:<62} {percent(check.value):>7}   95 % interval {percent(check.low)} to {percent(check.high)}"
        for check in (found.real, *found.checks)
    ]
    sentences = [check.sentence for check in found.checks]
    heading = (
        f"What the network relies on ({found.real.n} test images, {percent(found.chance)} of the most frequent class):"
    )
    return [heading, *rows, *sentences, *([found.note] if found.note else [])]


_MEANINGS: Mapping[str, tuple[str, str, str]] = {
    "centre_black": (
        "With the middle of each image black, {share} are still classified correctly: the outside alone predicts the class.",
        "With the middle of each image black, the network isn't clearly better than chance",
        "it needs the middle",
    ),
    "border_only": (
        "From the border alone, {share} are still classified correctly: marks, edges or framing predict the class.",
        "From the border alone, the network isn't clearly better than chance",
        "it needs more than the border",
    ),
    "coarse": (
        "At 8 by 8 pixels, without any detail, {share} are still classified correctly: coarse light and dark is enough.",
        "At 8 by 8 pixels, the network isn't clearly better than chance",
        "it needs detail",
    ),
    "histogram": (
        "A logistic regression on the grey histogram classifies {share} correctly: exposure alone predicts the class.",
        "A logistic regression on the grey histogram isn't clearly better than chance",
        "",
    ),
}
"""Of each check: what is said where it is clearly better than chance, where it isn't, and what the network needs then."""


def _sentence(name: str, clearly: bool, share: str, needed: bool) -> str:
    """The interpretation; ``share`` is the accuracy, or what can't be excluded where it isn't clearly better than chance."""
    better, chance, need = _MEANINGS[name]
    if clearly:
        return better.format(share=share)
    if needed and need:
        return f"{chance} (up to {share} can't be excluded), but clearly worse than on whole images: {need}."
    return f"{chance}; up to {share} can't be excluded."


def _centre_black(pixels: Pixels) -> Pixels:
    masked = pixels.copy()
    rows, columns = (round((1 - CENTRE) / 2 * side) for side in pixels.shape[1:3])
    masked[:, rows : pixels.shape[1] - rows, columns : pixels.shape[2] - columns] = 0
    return masked


def _border_only(pixels: Pixels) -> Pixels:
    masked = pixels.copy()
    rows, columns = (max(round(BORDER * side), 1) for side in pixels.shape[1:3])
    masked[:, rows : pixels.shape[1] - rows, columns : pixels.shape[2] - columns] = 0
    return masked


def _coarse(pixels: Pixels) -> Pixels:
    """Average to 8 x 8 pixels and scale up again."""
    from PIL import Image

    height, width = pixels.shape[1:3]
    return np.stack(
        [
            np.asarray(
                Image.fromarray(one)
                .resize((COARSE, COARSE), Image.Resampling.BOX)
                .resize((width, height), Image.Resampling.BILINEAR)
            )
            for one in pixels
        ]
    )


def _histogram_model(train: TrainingImages) -> Predict:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, C=0.1, class_weight="balanced"))
    model.fit(_histograms(train.pixels), train.labels)

    def predict(pixels: Pixels) -> Int[np.ndarray, " image"]:
        predicted: Int[np.ndarray, " image"] = model.predict(_histograms(pixels))
        return predicted

    return predict


def _histograms(pixels: Pixels) -> Float[np.ndarray, "image bin"]:
    """The square root of each grey level's share, so that rare levels count, too."""
    shares = []
    for one in pixels:
        grey = one.astype(np.float32) @ GREY
        shares.append(np.bincount((grey / 256 * BINS).astype(np.int64).ravel(), minlength=BINS) / grey.size)
    roots: Float[np.ndarray, "image bin"] = np.sqrt(np.array(shares))
    return roots


def _heat_in_border(
    network: StagedNetwork, preprocessing: Preprocessing, test: Pixels, predicted: Int[np.ndarray, " image"]
) -> Check:
    import torch

    chosen = sampled_positions(len(test), HEAT_MAPS)
    shares = []
    for start in range(0, len(chosen), 16):
        part = chosen[start : start + 16]
        images = preprocessing.normalise(torch.from_numpy(test[part]))
        shares += [border_share(heat, BORDER) for heat in grad_cam(network, images, predicted[part])]
    known = np.array([share for share in shares if not np.isnan(share)])
    even = 1 - (1 - 2 * BORDER) ** 2
    if not len(known):
        raise RunError("Grad-CAM found no evidence for the predicted classes in any image.")
    value, interval = float(known.mean()), _mean_interval(known)
    clearly = bool(interval.low > even)
    words = "more than" if clearly else "less than" if interval.high < even else "about as much as"
    sentence = (
        f"{percent(value)} of the evidence (Grad-CAM) lies in the outermost {BORDER * 100:.0f} % on each side, {words} the "
        f"{percent(even)} that evenly spread evidence would have there."
    )
    title = "share of Grad-CAM's evidence in the border"
    return Check("gradcam_border", title, value, interval.low, interval.high, len(known), clearly, sentence)


def _mean_interval(shares: Float[np.ndarray, " image"]) -> Interval:
    half = Z * float(shares.std(ddof=1)) / np.sqrt(len(shares)) if len(shares) > 1 else 1.0
    mean = float(shares.mean())
    return Interval(max(mean - half, 0.0), min(mean + half, 1.0))
