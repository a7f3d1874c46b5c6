"""The metrics that there are: each is measured, and those that are better lower are 0 at best."""

import numpy as np

from raylight.config.rules.metric_names import LABELS, LOWER_IS_BETTER, METRICS
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import Predictions


def test_every_name_is_measured_and_at_its_best_where_all_is_right() -> None:
    labels = np.arange(40) % 2
    paths = [str(i) for i in range(40)]
    perfect = evaluate(Predictions(paths, ["test"] * 40, labels, np.eye(2)[labels], ("cat", "dog"), "dog"))
    assert tuple(perfect) == METRICS == tuple(LABELS)
    assert {name: estimate.value for name, estimate in perfect.items()} == {
        name: 0.0 if name in LOWER_IS_BETTER else 1.0 for name in METRICS
    }
