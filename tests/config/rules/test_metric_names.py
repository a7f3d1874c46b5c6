"""The metrics that there are: each is measured, and those that are better lower are 0 at best."""

import numpy as np

from raylight.config.rules.metric_names import LABELS, LOWER_IS_BETTER, METRICS, own_name_problem
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


def test_a_name_of_the_users_own_is_a_word_and_none_of_ours() -> None:
    assert own_name_problem("f2") is None
    assert own_name_problem("f1") == "metrics.f1: there is a metric of that name; choose another"
    for name in ("F2", "2f", "a-b", "uncalibrated_f2", ""):
        assert str(own_name_problem(name)).startswith(f"metrics.{name}: isn't a name for a metric")
    assert LABELS["cost_per_image"] == "cost per image"
