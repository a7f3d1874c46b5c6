"""Sequences of modules that differ from their network in training alone are told apart from it, which is left as it was."""

import random
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from raylight.models.same_outputs import Outputs, comparable, random_images, run_stages


class Drops(nn.Module):
    """With dropout, BatchNorm and a buffer that training changes; with auxiliary logits in training if asked for."""

    def __init__(self, *, auxiliary: bool = False) -> None:
        super().__init__()
        self.conv, self.norm = nn.utils.parametrizations.spectral_norm(nn.Conv2d(3, 8, 3)), nn.BatchNorm2d(8)
        self.pool, self.flatten, self.dropout = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5)
        self.head, self.auxiliary = nn.Linear(8, 2), auxiliary

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        logits: Tensor = self.head(self.dropout(self.flatten(self.pool(self.norm(self.conv(images))))))
        return (logits, logits) if self.auxiliary and self.training else logits


BEFORE = ["conv", "norm", "pool", "flatten"]


def alike(network: nn.Module, names: list[str]) -> bool:
    with comparable(network), torch.inference_mode():
        outputs = Outputs.of(network, random_images(8))
        return outputs.are_those_of(network, partial(run_stages, network, {}, names))


def test_dropout_elsewhere_or_nowhere_is_a_difference() -> None:
    network = Drops()
    assert alike(network, [*BEFORE, "dropout", "head"])
    assert not alike(network, [*BEFORE, "head"])
    assert not alike(network, [*BEFORE, "head", "dropout"])
    assert not alike(network, ["dropout", *BEFORE, "head"])


def test_a_difference_in_evaluation_and_shapes_that_do_not_fit_are_differences() -> None:
    network = Drops()
    assert not alike(network, [*BEFORE, "dropout", "head", "dropout"])
    assert not alike(network, ["conv", "pool", "flatten", "dropout", "head"])
    assert not alike(network, ["head", *BEFORE])


def test_auxiliary_logits_of_training_are_left_out_of_the_comparison() -> None:
    network = Drops(auxiliary=True)
    assert alike(network, [*BEFORE, "dropout", "head"])
    assert not alike(network, [*BEFORE, "head"])


def test_a_librarys_auxiliary_classifiers_do_not_prevent_the_comparison() -> None:
    """Their dropout draws before the classifier's own, so that the logits of training can't be equal."""
    from torchvision.models import GoogLeNet

    class Small(GoogLeNet):
        def __init__(self) -> None:
            nn.Module.__init__(self)
            self.body, self.aux1 = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten()), nn.Dropout(0.7)
            self.dropout, self.fc = nn.Dropout(0.2), nn.Linear(48, 2)

        def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:  # type: ignore[override]
            features = self.body(images)
            auxiliary = self.aux1(features) if self.training else None
            logits: Tensor = self.fc(self.dropout(features))
            return logits if auxiliary is None else (logits, auxiliary)

    for module, expected in (("torchvision.models.googlenet", True), ("own.nets", False)):
        Small.__module__ = module
        assert alike(Small(), ["body", "dropout", "fc"]) is expected
        assert not alike(Small(), ["body", "fc", "dropout", "fc"])


def test_the_network_and_all_generators_are_left_as_they_were() -> None:
    network = Drops()
    network.norm.eval()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    buffers, modes = list(network.buffers()), [module.training for module in network.modules()]
    generators = torch.get_rng_state(), random.getstate(), np.random.get_state()
    assert alike(network, [*BEFORE, "dropout", "head"])
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert all(one is other for one, other in zip(network.buffers(), buffers, strict=True))
    assert [module.training for module in network.modules()] == modes
    assert torch.equal(torch.get_rng_state(), generators[0])
    assert random.getstate() == generators[1]
    assert np.array_equal(np.random.get_state()[1], generators[2][1])
    network.train()(torch.rand(2, 3, 8, 8)).sum().backward()  # no tensor of inference mode is left in it


def test_random_images_are_the_same_each_time_and_have_height_and_width() -> None:
    images = random_images((4, 6))
    assert images.shape == (2, 3, 4, 6)
    assert torch.equal(images, random_images((4, 6)))
    assert images.min() >= -1
    assert images.max() <= 1
