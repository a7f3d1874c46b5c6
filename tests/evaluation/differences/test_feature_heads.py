import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from raylight.evaluation.differences.feature_heads import heads_on_features

N = 300
TARGETS = np.arange(N) % 3
EXACT = np.random.default_rng(0).normal(size=(N, 6)) + np.eye(3, 6)[TARGETS] * 3


def test_heads_on_the_same_features_agree_and_are_as_accurate_as_scikit_learns() -> None:
    found = heads_on_features(EXACT, EXACT.copy(), TARGETS, strength=0.1)
    assert (found.n, found.only_model, found.only_version, found.difference) == (N, 0, 0, 0.0)
    spoilt = np.zeros_like(EXACT)  # heads that learn from it answer one class
    found = heads_on_features(EXACT, spoilt, TARGETS, strength=0.1)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1))
    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0)
    accuracy = (cross_val_predict(head, EXACT, TARGETS, groups=np.arange(N), cv=folds) == TARGETS).mean()
    assert found.difference == pytest.approx(1 / 3 - accuracy, abs=0.02)
    assert not found.shown


def test_both_heads_are_judged_on_the_exact_features() -> None:
    """Shifted features teach a shifted boundary: heads judged on them wouldn't notice."""
    found = heads_on_features(EXACT, EXACT + np.array([6.0, 0, 0, 0, 0, 0]), TARGETS, strength=0.1)
    assert found.difference < -0.15


def test_the_images_of_a_group_are_judged_by_a_head_that_learnt_from_none_of_them() -> None:
    """Pairs of equal images with random labels: only a head that has seen the other one does better than chance."""
    rng = np.random.default_rng(1)
    features, targets = (
        np.repeat(rng.normal(size=(60, 200)), 2, axis=0),
        np.repeat(rng.permutation(np.arange(60) % 2), 2),
    )
    spoilt = np.zeros_like(features)
    by_group = heads_on_features(features, spoilt, targets, np.repeat(np.arange(60), 2), strength=1.0)
    by_image = heads_on_features(features, spoilt, targets, strength=1.0)
    assert by_image.difference < -0.25 < -0.2 < by_group.difference


def test_a_class_with_too_few_images_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 5 images"):
        heads_on_features(EXACT, EXACT, np.minimum(np.arange(N), 1)[::-1].copy())
