"""Metrics of the user's own: given what they expect, with a bootstrap interval, refused where they can't be had."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import fbeta_score
from torch import Tensor
from torchmetrics import Metric

from raylight.config.rules.targets import ALLOWING
from raylight.errors import ConfigError, RunError
from raylight.evaluation.definitions.own import OwnMetrics, check_metrics
from raylight.evaluation.metrics import evaluate
from raylight.evaluation.predictions import Predictions

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 2, 200)
PROBABILITY = np.clip(LABELS * 0.3 + RNG.random(200) * 0.7, 0.01, 0.99)
BOTH = np.column_stack([PROBABILITY, 1 - PROBABILITY])  # the positive class is the first
F2 = {"_target_": "torchmetrics.classification.BinaryFBetaScore", "beta": 2.0}


class Confidence:
    """Mean probability of the true class."""

    def __call__(self, probabilities: Tensor, classes: Tensor) -> Tensor:
        return probabilities.gather(1, classes[:, None]).mean()


class Cost(Metric):
    """100 for each image of the rarest class that is missed, counted over updates."""

    def __init__(self, price: float, n_classes: int) -> None:
        super().__init__()
        self.price, self.n_classes = price, n_classes
        self.add_state("missed", torch.tensor(0))

    def update(self, probabilities: Tensor, classes: Tensor) -> None:
        self.missed += ((probabilities.argmax(1) != classes) & (classes == self.n_classes - 1)).sum()

    def compute(self) -> Tensor:
        return self.price * self.missed


class Fails:
    def __call__(self, probabilities: Tensor, classes: Tensor) -> Tensor:
        raise KeyError("mine")


@pytest.fixture(autouse=True)
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWING, "tests")


def node(kind: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{kind}", **arguments}


def predictions(groups: list[str] | None = None) -> Predictions:
    paths = tuple(map(str, range(200)))
    return Predictions(paths, ("test",) * 200, 1 - LABELS, BOTH, ("ill", "well"), "ill", groups and tuple(groups))


def test_each_kind_gets_what_it_expects() -> None:
    metrics = OwnMetrics(
        {
            "f2": F2,
            "macro_f2": {"_target_": "torchmetrics.classification.MulticlassFBetaScore", "beta": 2.0},
            "by_task": {"_target_": "torchmetrics.FBetaScore", "task": "binary", "beta": 2.0},
            "confidence": node("Confidence"),
            "cost": node("Cost", price=100),
        },
        n_classes=2,
        positive=0,
    )
    for _ in range(2):  # nothing is kept from one call to the next
        found = metrics.values(BOTH, 1 - LABELS)
        said = PROBABILITY > 0.5
        f2 = fbeta_score(LABELS == 1, said, beta=2)
        assert found["f2"] == found["by_task"] == pytest.approx(f2, abs=1e-6)
        assert found["macro_f2"] == pytest.approx(fbeta_score(LABELS, said, beta=2, average="macro"), abs=1e-6)
        assert found["confidence"] == pytest.approx(
            np.where(LABELS == 1, PROBABILITY, 1 - PROBABILITY).mean(), abs=1e-6
        )
        assert found["cost"] == 100 * (said & (LABELS == 0)).sum()


def test_it_has_a_bootstrap_interval_over_images_or_groups() -> None:
    """The mean of a number an image: the interval is that of the standard error, and wider where images are alike."""
    own = OwnMetrics({"confidence": node("Confidence"), "f2": F2}, 2, 0)
    each = np.where(LABELS == 1, PROBABILITY, 1 - PROBABILITY)
    found = evaluate(predictions(), own=own)
    assert list(found)[-2:] == ["confidence", "f2"]
    one = found["confidence"]
    assert (one.n, one.method, one.caveat) == (200, "bootstrap", None)
    half = 1.96 * each.std(ddof=1) / np.sqrt(200)
    assert one.low == pytest.approx(each.mean() - half, abs=0.1 * half)
    assert one.high == pytest.approx(each.mean() + half, abs=0.1 * half)
    rank = np.argsort(each)  # five images of a group are nearly the same
    patients = np.empty(200, object)
    patients[rank] = [f"patient {i // 5}" for i in range(200)]
    grouped = evaluate(predictions(list(patients)), own=own)["confidence"]
    assert grouped.high - grouped.low == pytest.approx(np.sqrt(5) * 2 * half, rel=0.1)
    assert "few_groups" not in (grouped.caveat or "")


def test_an_interval_stays_within_the_metrics_range() -> None:
    own = OwnMetrics({"f2": F2}, 2, 0)
    few = predictions().where(np.arange(200) < 7)  # one of them is wrong: the bootstrap alone would go beyond 1
    found = evaluate(few, own=own)["f2"]
    assert 0 <= found.low < found.value < found.high == 1
    assert OwnMetrics({"cost": node("Cost", price=1)}, 2, 0).range_of("cost") == (-np.inf, np.inf)


def test_what_never_varies_says_so() -> None:
    found = evaluate(predictions(), own=OwnMetrics({"cost": node("Cost", price=0)}, 2, 0))["cost"]
    assert (found.value, found.low, found.high, found.caveat) == (0, 0, 0, "resamples_alike")


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        ({"_target_": "os.getcwd"}, "metrics.mine._target_: 'os.getcwd' is not from a trusted package"),
        ({"_target_": "torch.hub.list"}, r"isn't a class of the kind metric \(torchmetrics.metric.Metric\)"),
        ({**F2, "x": {"_target_": "os.getcwd"}}, "metrics.mine.x._target_: 'os.getcwd' is not from a trusted package"),
        (
            {**F2, "multidim_average": {"_target_": "os.getcwd"}},
            "metrics.mine.multidim_average._target_: 'os.getcwd' is not",
        ),
        ({**F2, "beta": -1.0}, "metrics.mine: torchmetrics.classification.BinaryFBetaScore: Expected argument `beta`"),
        (node("Fails"), "metrics.mine fails on 10 images: KeyError: 'mine'"),
        (node("Cost", price=1, n_classes=2), "metrics.mine.n_classes: is the number of classes"),
        (node("made_of_nothing"), "metrics.mine: .* made a int; expected a torchmetrics.Metric or function"),
    ],
)
def test_what_cannot_be_measured_is_refused(metric: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_metrics({"mine": metric})


def made_of_nothing() -> int:
    return 3


def test_one_that_fails_later_names_itself() -> None:
    with pytest.raises(RunError, match=r"metrics\.mine fails on 200 images: KeyError: 'mine'"):
        OwnMetrics({"mine": node("Fails")}, 2, 0).values(BOTH, LABELS)
