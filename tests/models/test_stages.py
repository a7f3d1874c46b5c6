import copy

import pytest
import torch
from torch import nn

from raylight.config.schema import ModelConfig
from raylight.models.build import build_network
from raylight.models.stages import StagedNetwork, find_stages, split_head, whole

SMALL = [
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "resnet18",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
]


def torchvision_network(name: str, n_classes: int = 3, **settings: object) -> StagedNetwork:
    settings = {"image_size": 96, "normalize": "imagenet"} | settings
    return build_network(ModelConfig(name=name, family="torchvision", **settings), n_classes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SMALL)
def test_stages_compute_what_torchvision_computes_wherever_they_are_cut(name: str) -> None:
    torch.manual_seed(0)
    network = torchvision_network(name).eval()
    images = torch.randn(2, 3, 96, 96)
    assert network.sequential
    with torch.inference_mode():
        expected = network.network(images)
        assert expected.shape == (2, 3)
        assert torch.equal(network(images), expected)
        for cut in (1, len(network.stage_names) // 2, network.head_start):
            assert torch.equal(network.run(network.run(images, 0, cut), cut, None), expected)


def test_stages_keep_torchvision_names() -> None:
    resnet = torchvision_network("resnet18")
    assert resnet.stage_names == (
        *("conv1", "bn1", "relu", "maxpool"),
        *(f"layer{number}.{block}" for number in range(1, 5) for block in range(2)),
        *("avgpool", "flatten", "fc"),
    )
    mobilenet = torchvision_network("mobilenet_v2")
    assert mobilenet.stage_names[14:] == (
        *(f"features.{number}" for number in range(14, 19)),
        *("pool", "flatten", "classifier.0", "classifier.1"),
    )
    assert mobilenet.position("features.15") == 15
    with pytest.raises(KeyError, match=r"features\.99"):
        mobilenet.position("features.99")


def test_state_of_all_stages_is_the_state() -> None:
    network = torchvision_network("resnet18")
    state = network.state_dict()
    parts = network.state_between(0, 5) | network.state_between(5, None)
    assert list(parts) == list(state)
    assert set(network.state_between(0, 2)) == {
        name for name in state if name.startswith(("network.conv1.", "network.bn1."))
    }


def test_copies_run_their_own_weights() -> None:
    network = torchvision_network("shufflenet_v2_x0_5").eval()
    twin = copy.deepcopy(network)
    images = torch.randn(1, 3, 96, 96)
    with torch.inference_mode():
        before = network(images)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(network(images), before)
        assert not twin(images).any()


def test_search_leaves_network_and_generator_as_they_were() -> None:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    network = resnet18()
    network.layer1.eval()
    state, modes = copy.deepcopy(network.state_dict()), [module.training for module in network.modules()]
    generator = torch.get_rng_state()
    assert find_stages(network, "fc", 96) is not None
    assert torch.equal(torch.get_rng_state(), generator)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())


class Crossed(nn.Module):
    """Its modules run in another order than they are defined, one of them twice."""

    def __init__(self, *, twisted_head: bool) -> None:
        super().__init__()
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.first = nn.Conv2d(3, 8, 3, padding=1)
        self.heads = nn.Sequential(nn.Linear(8, 4))
        self.twisted_head = twisted_head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features = self.second(self.second(self.first(images))).mean((2, 3))
        logits: torch.Tensor = self.heads(features)
        return logits * 2 if self.twisted_head else logits


def test_network_out_of_sequence_is_cut_before_its_head() -> None:
    crossed = Crossed(twisted_head=False).eval()
    images = torch.randn(2, 3, 20, 20)
    expected = crossed(images)
    assert find_stages(crossed, "heads.0", 20) is None
    network = split_head(crossed, "heads.0", 20)
    assert network is not None
    assert network.sequential
    assert network.stage_names == ("body", "head")
    assert torch.equal(network.run(network.run(images, 0, 1), 1, None), expected)


def test_network_that_cannot_be_cut_says_so_and_stays_whole() -> None:
    crossed = Crossed(twisted_head=True).eval()
    images = torch.randn(2, 3, 20, 20)
    expected = crossed(images)
    assert split_head(crossed, "heads.0", 20) is None
    assert torch.equal(crossed(images), expected)
    network = StagedNetwork(crossed, ["network"], 0, sequential=False)
    assert torch.equal(network(images), expected)
    assert network.state_between(0, None).keys() == network.state_dict().keys()


def test_names_of_a_network_that_was_cut_are_those_it_had() -> None:
    head = torch.nn.Linear(2, 2)
    heads = nn.Module()
    heads.heads = nn.ModuleDict({"head": head})
    heads.conv = nn.Conv2d(3, 2, 1)
    heads.forward = lambda images: heads.heads["head"](heads.conv(images).mean((2, 3)))
    before = dict(heads.state_dict())
    network = split_head(heads, "heads.head", 20)
    assert network is not None
    again = whole(network.network.state_dict(), "heads.head")
    assert set(network.network.state_dict()) != again.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in again.items())
    assert whole(before, "heads.head") is before
