import copy

import pytest
import torch
from torch import nn
from torchvision.ops import StochasticDepth

from raylight.config.schema import ModelConfig
from raylight.errors import ConfigError
from raylight.models.build import build_network
from raylight.models.freezing import constant_until, freeze, freeze_boundary, has_trainable_batch_norm
from raylight.models.stages import StagedNetwork


def resnet18(**settings: object) -> StagedNetwork:
    return build_network(ModelConfig(name="resnet18", family="torchvision", **settings), 2)  # type: ignore[arg-type]


def train_steps(network: StagedNetwork, steps: int = 2) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(torch.randn(4, 3, 32, 32)), torch.tensor([0, 1, 0, 1])).backward()
        optimizer.step()


@pytest.mark.parametrize(
    ("train_from", "first"),
    [("head", "fc"), ("last_blocks", "layer4.0"), ("layer3.1", "layer3.1"), ("layer2", "layer2.0")],
)
def test_frozen_stages_do_not_change_whatever_train_is_called(train_from: str, first: str) -> None:
    torch.manual_seed(0)
    network = resnet18()
    start = freeze_boundary(network, train_from, "layer4.0")
    assert network.stage_names[start] == first
    freeze(network, start)
    before = copy.deepcopy(network.state_dict())
    frozen = set(network.state_between(0, start))
    network.eval()
    network.train()
    network.network.train()
    network.train(True)
    train_steps(network)
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in frozen)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed == set(after) - frozen  # weights and BatchNorm's statistics of all that trains
    assert all(parameter.grad is None for name, parameter in network.named_parameters() if name in frozen)
    assert all(not network.stage(position).training for position in range(start))
    assert all(network.stage(position).training for position in range(start, len(network.stage_names)))


def test_moving_the_boundary_frees_and_freezes() -> None:
    torch.manual_seed(0)
    network = resnet18().train()
    freeze(network, network.head_start)
    freeze(network, network.position("layer4.0"))
    assert network.stage(network.position("layer4.1")).training
    train_steps(network, 1)
    grown = network.state_between(network.position("layer4.0"), network.head_start)
    freeze(network, network.head_start)
    assert all(parameter.grad is None for parameter in network.network.layer4.parameters())
    before = {name: value.clone() for name, value in grown.items()}
    train_steps(network, 1)
    after = network.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    freeze(network, 0)
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(module.training for module in network.modules())


def test_freezing_keeps_evaluation_mode() -> None:
    network = resnet18().eval()
    freeze(network, 5)
    assert not any(module.training for module in network.modules())


def test_boundaries_by_name() -> None:
    network = resnet18()
    assert freeze_boundary(network, "all") == 0
    assert freeze_boundary(network, "head") == network.head_start == 14
    assert freeze_boundary(network, "last_blocks") == 11  # the last quarter of the 14 stages below the head
    with pytest.raises(
        ConfigError, match=r"train_from: the network has no stage 'layer4\.7'; did you mean 'layer4\.\d'"
    ):
        freeze_boundary(network, "layer4.7")
    with pytest.raises(
        ConfigError, match=r"model\.last_blocks_from: the network has no stage 'layr4'; did you mean 'layer4'"
    ):
        freeze_boundary(network, "last_blocks", "layr4")


def test_network_that_cannot_be_cut_trains_whole_or_not_at_all() -> None:
    network = StagedNetwork(nn.Linear(2, 2), ["network"], 0, sequential=False)
    assert freeze_boundary(network, "all") == 0
    with pytest.raises(ConfigError, match="don't run in sequence; use 'all'"):
        freeze_boundary(network, "head")
    assert constant_until(network, 0) == 0


def test_constant_part_reaches_over_pooling_but_not_over_dropout_or_parameters() -> None:
    model = ModelConfig(channels=[4, 4], batch_norm=True, conv_dropout=0.5, dense=[6], image_size=16)
    network = build_network(model, 2)
    # block1: conv norm relu pool dropout, then block2
    at = network.position
    assert constant_until(network, 0) == 0
    assert constant_until(network, at("block1.relu")) == at("block1.dropout")
    assert constant_until(network, at("block1.norm")) == at("block1.norm")
    without = build_network(ModelConfig(channels=[4, 4], dense=[6], image_size=16), 2)
    assert without.stage_names[constant_until(without, without.position("block2.relu"))] == "dense1"


def test_only_batch_norm_that_trains_counts() -> None:
    network = build_network(ModelConfig(name="resnet18", family="torchvision", image_size=64), 2)
    assert has_trainable_batch_norm(network, 0)
    assert has_trainable_batch_norm(network, freeze_boundary(network, "layer4.1"))
    assert not has_trainable_batch_norm(network, network.head_start)


@pytest.mark.parametrize(("below", "first"), [(4, 3), (7, 6), (8, 6), (12, 9)])
def test_the_last_blocks_are_the_last_quarter_below_the_head(below: int, first: int) -> None:
    network = StagedNetwork(
        nn.Sequential(*(nn.Linear(2, 2) for _ in range(below + 1))), list(map(str, range(below + 1))), below
    )
    assert freeze_boundary(network, "last_blocks") == first
    assert freeze_boundary(network, "head") == below


def test_a_network_of_three_stages_below_its_head_has_no_last_blocks() -> None:
    network = StagedNetwork(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))), list("0123"), 3)
    with pytest.raises(ConfigError, match=r"'last_blocks' is impossible: .* before its head; use 'head' or 'all'"):
        freeze_boundary(network, "last_blocks")
    assert freeze_boundary(network, "last_blocks", "2") == 2
    with pytest.raises(ConfigError, match=r"no stage 'xyz'; one of: 0, 1, 2, 3$"):
        freeze_boundary(network, "xyz")


@pytest.mark.parametrize(
    ("stage", "constant"),
    [
        (nn.ReLU(), True),
        (nn.Dropout(0.0), True),
        (nn.Dropout(0.1), False),
        (nn.RReLU(), False),
        (nn.Sequential(nn.Flatten(), nn.Dropout2d(0.5)), False),
        (StochasticDepth(0.2, "row"), False),
        (nn.BatchNorm1d(2, affine=False), False),  # statistics change, if no weights
        (nn.Linear(2, 2), False),
        (nn.LPPool1d(2, 2), True),
    ],
)
def test_what_has_nothing_to_train_and_nothing_random_is_constant(stage: nn.Module, constant: bool) -> None:
    network = StagedNetwork(nn.Sequential(nn.Linear(2, 2), stage, nn.Linear(2, 2)), list("012"), 2)
    assert constant_until(network, 1) == (2 if constant else 1)


def test_the_last_stage_trains_even_where_it_has_nothing_to_train() -> None:
    network = StagedNetwork(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Flatten()), list("012"), 1)
    assert constant_until(network, 1) == 2
