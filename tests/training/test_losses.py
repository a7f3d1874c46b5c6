"""The loss equals its formulas, for classes and for shares of classes; one of the user's is tried before it is trained with."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as nnf
from torchvision.ops import sigmoid_focal_loss

from raylight.config.schema import LossConfig
from raylight.errors import ConfigError
from raylight.training.losses import build_loss, classification_loss, loss_weight


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_the_focal_loss_of_two_classes_is_torchvisions(gamma: float) -> None:
    torch.manual_seed(0)
    score, targets = torch.randn(50) * 3, torch.randint(0, 2, (50,))
    found = classification_loss(torch.stack([torch.zeros(50), score], 1), targets, LossConfig(focal_gamma=gamma), None)
    expected = sigmoid_focal_loss(score, targets.float(), alpha=-1, gamma=gamma, reduction="mean")
    torch.testing.assert_close(found, expected)


def test_the_focal_loss_of_three_classes_is_equation_5() -> None:
    """One image of probabilities 0.7, 0.2, 0.1: (1 - p)^2 times -log p."""
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    for target, p in enumerate((0.7, 0.2, 0.1)):
        found = classification_loss(logits, torch.tensor([target]), LossConfig(focal_gamma=2.0), None)
        assert float(found) == pytest.approx(-((1 - p) ** 2) * math.log(p), rel=1e-5)


def test_label_smoothing_shares_a_part_of_the_target_among_all_classes() -> None:
    """0.3 of the target over three classes: 0.8, 0.1, 0.1 (Szegedy et al. 2016, section 7)."""
    logits = torch.tensor([[0.7, 0.2, 0.1]]).log()
    found = classification_loss(logits, torch.tensor([0]), LossConfig(label_smoothing=0.3), None)
    expected = -(0.8 * math.log(0.7) + 0.1 * math.log(0.2) + 0.1 * math.log(0.1))
    assert float(found) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("loss", [LossConfig(label_smoothing=0.1), LossConfig(focal_gamma=2.0)])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.3, 3.0, 1.0])])
def test_shares_weighted_by_their_divisors_give_the_loss_of_the_batch(
    loss: LossConfig, weights: torch.Tensor | None
) -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(9, 3), torch.tensor([0, 0, 1, 2, 0, 0, 1, 0, 2])
    parts = [slice(0, 2), slice(2, 9)]
    divisors = [float(loss_weight(targets[part], weights)) for part in parts]
    losses = [float(classification_loss(logits[part], targets[part], loss, weights)) for part in parts]
    together = np.average(losses, weights=divisors)
    assert together == pytest.approx(float(classification_loss(logits, targets, loss, weights)), rel=1e-6)


@pytest.mark.parametrize("loss", [LossConfig(label_smoothing=0.1), LossConfig(focal_gamma=2.0, label_smoothing=0.2)])
@pytest.mark.parametrize("weights", [None, torch.tensor([0.3, 3.0, 1.0])])
def test_shares_of_classes_cost_the_mean_of_the_classes(loss: LossConfig, weights: Tensor | None) -> None:
    """30 % of class 0 and 70 % of class 2 are what 3 images of class 0 and 7 of class 2 with these logits are."""
    logits = torch.randn(1, 3, generator=torch.Generator().manual_seed(0))
    mixed = classification_loss(logits, torch.tensor([[0.3, 0.0, 0.7]]), loss, weights)
    images = classification_loss(logits.expand(10, 3), torch.tensor([0] * 3 + [2] * 7), loss, weights)
    assert float(mixed) == pytest.approx(float(images), rel=1e-5)
    certain = classification_loss(logits, torch.tensor([[0.0, 1.0, 0.0]]), loss, weights)
    assert float(certain) == pytest.approx(
        float(classification_loss(logits, torch.tensor([1]), loss, weights)), rel=1e-5
    )


class Hinge(nn.Module):
    """Margin of 1 between the true class and the best other one; a value for each image."""

    def __init__(self, margin: float = 1.0, gives: str = "each") -> None:
        super().__init__()
        self.margin, self.gives = margin, gives
        if gives == "parameters":
            self.scale = nn.Parameter(torch.ones(()))

    def forward(self, logits: Tensor, targets: Tensor) -> Any:
        true = logits.gather(1, targets[:, None])[:, 0]
        others = logits.masked_fill(nnf.one_hot(targets, logits.shape[1]).bool(), -torch.inf).amax(1)
        each = torch.relu(self.margin + others - true)
        given = {"a pair": (each, each), "no gradient": each.detach().mean(), "a matrix": logits, "infinity": each / 0}
        return given.get(self.gives, each)


def own(target: str, **settings: Any) -> LossConfig:
    target = target if "." in target else f"{__name__}.{target}"
    return LossConfig(name="own", _target_=target, **settings)


def test_a_loss_of_the_users_is_used_as_it_is() -> None:
    logits, targets = torch.tensor([[2.0, 0.5, 0.0], [0.0, 0.2, 0.1]]), torch.tensor([0, 2])
    loss = build_loss(own("Hinge", arguments={"margin": 2.0}), 3, None)
    assert float(loss(logits, targets)) == pytest.approx((0.5 + 2.1) / 2)
    assert float(loss.weight(targets)) == 2
    margin = build_loss(own("torch.nn.MultiMarginLoss"), 3, None)
    assert float(margin(logits, targets)) == pytest.approx(float(nnf.multi_margin_loss(logits, targets)))


def test_it_gets_weights_and_smoothing_where_its_signature_has_them() -> None:
    torch.manual_seed(0)
    logits, targets, weights = torch.randn(9, 3), torch.randint(0, 3, (9,)), torch.tensor([0.3, 3.0, 1.0])
    config = own("torch.nn.CrossEntropyLoss", class_weights="balanced", label_smoothing=0.1)
    expected = classification_loss(logits, targets, LossConfig(label_smoothing=0.1), weights)
    for arguments in ({}, {"reduction": "none"}):
        config.arguments = arguments
        found = build_loss(config, 3, weights)
        torch.testing.assert_close(found(logits, targets), expected)
        assert float(found.weight(targets)) == pytest.approx(float(weights[targets].sum()))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            own("Hinge", class_weights="balanced"),
            "loss.class_weights: .*Hinge has no parameter weight or class_weights",
        ),
        (own("Hinge", label_smoothing=0.1), "loss.label_smoothing: .*Hinge has no such parameter; set it to 0"),
        (own("Hinge", focal_gamma=2.0), "loss.focal_gamma: 2, which .*Hinge doesn't read; see loss.arguments"),
        (own("Hinge", arguments={"gives": "parameters"}), "has parameters of its own"),
        (own("Hinge", arguments={"gives": "a pair"}), "gives a tuple; expected the mean of images"),
        (own("Hinge", arguments={"gives": "a matrix"}), r"gives torch.float32\[4, 3\]; expected the mean"),
        (own("Hinge", arguments={"gives": "no gradient"}), r"gives torch.float32\[\] without a gradient"),
        (own("Hinge", arguments={"gives": "infinity"}), "gives .* for ordinary logits; expected numbers"),
        (own("torch.nn.BCEWithLogitsLoss"), r"fails on logits float\[4, 3\] and targets int64\[4\]: Target size"),
        (own("builtins.dict"), "made a dict; expected a torch.nn.Module"),
    ],
)
def test_what_cannot_be_trained_with_is_refused(config: LossConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_loss(config, 3, torch.ones(3) if config.class_weights else None)


def test_mixed_classes_need_a_loss_that_takes_them() -> None:
    build_loss(own("torch.nn.CrossEntropyLoss"), 3, None, soft=True)
    with pytest.raises(ConfigError, match=r"augment.batch: mixes classes, .*Hinge fails .* targets float32\[4, 3\]"):
        build_loss(own("Hinge"), 3, None, soft=True)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("gamma", [0.0, 1.0, 2.5])
def test_the_weighted_focal_loss_is_its_weighted_mean(n_classes: int, gamma: float) -> None:
    """Each image: weight of its class times (1 - p)^gamma times -log p; divided by the sum of the weights."""
    torch.manual_seed(2)
    logits, targets = torch.randn(11, n_classes), torch.arange(11) % n_classes
    weights = torch.tensor([0.3, 3.0, 1.7])[:n_classes]
    p = logits.softmax(1)[torch.arange(11), targets]
    each = weights[targets] * (1 - p) ** gamma * -p.log()
    found = classification_loss(logits, targets, LossConfig(focal_gamma=gamma), weights)
    torch.testing.assert_close(found, each.sum() / weights[targets].sum())
    unweighted = classification_loss(logits, targets, LossConfig(focal_gamma=gamma), None)
    torch.testing.assert_close(unweighted, ((1 - p) ** gamma * -p.log()).mean())
    assert float(loss_weight(targets, None)) == 11
    assert float(loss_weight(targets, weights)) == pytest.approx(float(weights[targets].sum()))


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_a_focal_exponent_it_is_torchs_mean(smoothing: float) -> None:
    torch.manual_seed(3)
    logits, targets, weights = torch.randn(7, 3), torch.arange(7) % 3, torch.tensor([0.5, 1.0, 4.0])
    expected = torch.nn.functional.cross_entropy(logits, targets, weights, label_smoothing=smoothing)
    torch.testing.assert_close(
        classification_loss(logits, targets, LossConfig(label_smoothing=smoothing), weights), expected
    )
