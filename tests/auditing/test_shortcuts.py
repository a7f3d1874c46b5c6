"""Networks whose shortcut is known: each check finds its own, and clears the others."""

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from raylight.auditing.shortcuts import Check, TrainingImages, check_shortcuts, shortcut_lines
from raylight.evaluation.predictions import LabelledPredictions
from raylight.models.preprocessing import Preprocessing

SIZE = 40
LABELS = np.arange(120) % 2
PREPROCESSING = Preprocessing(SIZE, "stretch", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def pictures(seed: int) -> np.ndarray:
    """Grey noise; class 1 has a bright spot in the middle, a bright corner, and fine stripes; all are equally bright."""
    rng = np.random.default_rng(seed)
    images = rng.normal(110, 20, (len(LABELS), SIZE, SIZE, 3))
    one = LABELS == 1
    images[one, 16:24, 16:24] += 80
    images[one, :3, :3] += 80
    images[one, 26:30, ::2] += 60
    images[one, 26:30, 1::2] -= 60
    return images.clip(1, 255).astype(np.uint8)


def checks_of(region: tuple[slice, slice], stripes: bool = False) -> dict[str, Check]:
    """The checks of a network that looks at one region only."""

    def predict(pixels: np.ndarray) -> np.ndarray:
        part = pixels[:, region[0], region[1]].astype(float).mean(axis=3)
        score = np.abs(np.diff(part, axis=2)).mean(axis=(1, 2)) - 60 if stripes else part.mean(axis=(1, 2)) - 150
        return (score > 0).astype(np.int64)

    test = pictures(1)
    predicted = predict(test)
    labelled = LabelledPredictions(LABELS, np.eye(2)[predicted], predicted, 1, None)
    found = check_shortcuts(predict, test, labelled, TrainingImages(pictures(2), LABELS), None, PREPROCESSING)
    assert found.chance == 0.5
    assert found.real.value > 0.95
    assert found.note == "Grad-CAM was left out."
    assert len(shortcut_lines(found)) == 1 + 5 + 4 + 1
    return {check.name: check for check in found.checks}


def test_a_network_that_needs_the_centre_is_cleared() -> None:
    checks = checks_of((slice(16, 24), slice(16, 24)))
    assert not checks["centre_black"].suspicious
    assert not checks["border_only"].suspicious
    assert checks["centre_black"].value == pytest.approx(0.5)
    high = proportion_confint(60, 120, method="wilson")[1]
    assert checks["centre_black"].sentence == (
        f"With the middle of each image black, the network isn't clearly better than chance (up to {100 * high:.0f} % can't be "
        "excluded), but clearly worse than on whole images: it needs the middle."
    )
    assert checks["coarse"].suspicious  # a spot of 8 pixels in 40 is still there at 8 x 8


@pytest.mark.parametrize(("right", "most"), [(14, 85), (13, 82)])
def test_few_images_clear_nothing(right: int, most: int) -> None:
    """Of 20 images 16 are classified correctly; with the middle black, 14 or 13 still are."""
    labels = LABELS[:20]
    predicted, masked = (np.where(np.arange(20) < count, labels, 1 - labels) for count in (16, right))
    labelled = LabelledPredictions(labels, np.eye(2)[predicted], predicted, 1, None)
    test = np.full((20, SIZE, SIZE, 3), 100, np.uint8)
    found = check_shortcuts(
        lambda pixels: masked, test, labelled, TrainingImages(test, labels), None, PREPROCESSING
    ).checks[0]
    assert not found.suspicious
    assert found.sentence.endswith(f"isn't clearly better than chance; up to {most} % can't be excluded.")


def test_a_network_that_reads_the_corner_is_caught() -> None:
    checks = checks_of((slice(0, 3), slice(0, 3)))
    assert checks["centre_black"].suspicious
    assert checks["border_only"].suspicious
    assert checks["border_only"].low > 0.9
    assert "From the border alone, " in checks["border_only"].sentence


def test_a_network_that_needs_fine_detail_fails_at_eight_pixels() -> None:
    checks = checks_of((slice(26, 30), slice(0, SIZE)), stripes=True)
    assert not checks["coarse"].suspicious
    assert checks["coarse"].sentence.endswith("but clearly worse than on whole images: it needs detail.")


def test_greys_alone_are_judged_by_a_model_of_the_training_images() -> None:
    spots = checks_of((slice(16, 24), slice(16, 24)))["histogram"]
    assert spots.suspicious  # bright spots leave bright greys
    rng = np.random.default_rng(5)
    noise = rng.integers(0, 255, (len(LABELS), SIZE, SIZE, 3), np.uint8)
    labelled = LabelledPredictions(LABELS, np.eye(2)[LABELS], LABELS, 1, None)
    found = check_shortcuts(
        lambda pixels: LABELS, noise, labelled, TrainingImages(noise[::-1], LABELS), None, PREPROCESSING
    )
    histogram = next(check for check in found.checks if check.name == "histogram")
    assert not histogram.suspicious


def test_patients_count_once() -> None:
    test = pictures(1)
    groups = np.arange(len(LABELS)) // 20
    labels = groups % 2
    labelled = LabelledPredictions(labels, np.eye(2)[labels], labels, 1, groups)
    found = check_shortcuts(lambda pixels: labels, test, labelled, TrainingImages(test, labels), None, PREPROCESSING)
    assert found.real.value == 1
    assert found.real.low < 0.65  # six patients, not 120 images
