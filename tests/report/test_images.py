"""Which images are shown, and where their evidence lies."""

import numpy as np

from raylight.data.index import Index
from raylight.evaluation.predictions import Predictions
from raylight.report.images import notable_images, overlaid
from raylight.report.run_page import write_report
from tests.report.page_reader import Page


def test_every_example_has_its_heat(finished):
    page = Page(write_report(finished.run, finished.network))
    shown = [alt for alt in page.alts if "predicted as" in alt]
    heats = [alt for alt in page.alts if alt.startswith("Grad-CAM for")]
    assert len(shown) == len(heats) > 6
    without = Page(write_report(finished.run))
    assert "Grad-CAM is missing" in without.section("images")
    assert not [alt for alt in without.alts if alt.startswith("Grad-CAM for")]
    assert len([alt for alt in without.alts if "predicted as" in alt]) == len(shown)


def test_missing_and_changed_originals_are_told_not_shown(finished, tmp_path):
    index = Index.read(finished.run / "index.parquet")
    moved = Index(tmp_path / "elsewhere", index.class_names, index.positive_class, index.table, index.thumbnails)
    moved.write(finished.run / "index.parquet")
    page = Page(write_report(finished.run, finished.network))
    assert "can't be shown: the originals in" in page.section("images")
    assert "No such file or directory" in page.section("data")
    assert not [alt for alt in page.alts if "predicted as" in alt]

    for path, sha in zip(index.column("path"), index.column("sha256"), strict=True):
        target = tmp_path / "elsewhere" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        original = (index.root / path).read_bytes()
        target.write_bytes(original + b"!" if path.startswith("test/") and sha else original)
    page = Page(write_report(finished.run, finished.network))
    assert "changed since the run" in page.section("images")
    assert "can't be shown" not in page.section("data")


def test_the_telling_images_are_the_telling_ones():
    positive = np.array([0.9, 0.99, 0.2, 0.45, 0.55, 0.05, 0.3, 0.8])
    labels = np.array([0, 0, 1, 0, 1, 0, 1, 1])
    test = Predictions(
        [f"{i}.jpg" for i in range(8)], ["test"] * 8, labels, np.stack([1 - positive, positive], 1), ("a", "b"), "b"
    )
    chosen = notable_images(test, None, each=2)
    assert chosen["errors"].tolist() == [1, 0]
    assert sorted(chosen["uncertain"].tolist()) == [3, 4]
    assert sorted(chosen["correct"].tolist()) == [5, 7]
    # At a threshold of 0.25, image 2 alone of the second class is missed, and 6 is the nearest to it.
    chosen = notable_images(test, 0.25, each=3)
    assert chosen["errors"].tolist() == [1, 0, 2]
    assert chosen["uncertain"].tolist()[:1] == [6]


def test_heat_leaves_the_picture_grey_where_there_is_none():
    pixels = np.full((8, 8, 3), (200, 40, 40), np.uint8)
    heat = np.zeros((4, 4), np.float32)
    heat[:, 3] = 1
    mixed = overlaid(pixels, heat).astype(int)
    assert np.ptp(mixed[:, 0], axis=-1).max() == 0
    assert np.ptp(mixed[:, 7], axis=-1).min() > 40
