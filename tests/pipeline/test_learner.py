"""What the learner derives from the training images."""

import numpy as np
import pytest
from omegaconf import OmegaConf
from sklearn.utils.class_weight import compute_class_weight

from raylight.config.schema import RunConfig
from raylight.pipeline.learner import _class_weights
from tests.training.tiny import samples


def test_balanced_weights_are_scikit_learns() -> None:
    targets = [0] * 12 + [1] * 3 + [2] * 5
    config = OmegaConf.structured(RunConfig)
    config.loss.class_weights = "balanced"
    weights = _class_weights(config, samples(targets, 1), 3)
    assert weights.tolist() == pytest.approx(
        compute_class_weight("balanced", classes=np.arange(3), y=np.array(targets)).tolist()
    )
