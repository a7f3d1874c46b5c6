"""A face has the size and the form that is asked for."""

import numpy as np
import pytest
from PIL import Image

from raylight.data.index import Index
from raylight.data.sources.demo import draw_face


@pytest.mark.parametrize("kind", ["cat", "dog"])
@pytest.mark.parametrize("size", [(90, 90), (260, 97)])
def test_a_face_has_the_size_asked_for(kind: str, size: tuple[int, int]) -> None:
    image = draw_face(kind, *size, np.random.default_rng(0))
    assert isinstance(image, Image.Image)
    assert image.size == size
    assert image.mode == "RGB"
    assert np.asarray(image).std() > 10


def test_form_tells_the_class(demo: Index) -> None:
    """A linear model on 32 x 32 outlines gets part of the way; the rest is for convolutions."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.model_selection import cross_val_score

    good = demo.usable()
    grey = np.asarray(good.thumbnails).mean(axis=3)
    edges = np.abs(np.diff(grey, axis=1))[:, :, :-1] + np.abs(np.diff(grey, axis=2))[:, :-1]
    accuracy = cross_val_score(RidgeClassifier(1e6), edges.reshape(len(good), -1), good.targets(), cv=5)
    assert 0.7 < accuracy.mean() < 0.97
