import copy

import pytest
import torch
from torch import nn

from raylight.config.schema import ModelConfig
from raylight.models.build import build_network
from raylight.models.stages import (
    StagedNetwork,
    _SpatialMean,
    find_stages,
    flat_stages,
    original_names,
    split_blocks,
    split_head,
)

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
    again = original_names(network.network.state_dict(), "heads.head")
    assert set(network.network.state_dict()) != again.keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in again.items())
    assert original_names(before, "heads.head") is before


def test_any_part_of_the_stages_runs_alone() -> None:
    network = StagedNetwork(nn.Sequential(*(nn.Linear(2, 2) for _ in range(4))), list("0123"), 3)
    values, layers = torch.randn(5, 2), list(network.network)
    for start in range(5):
        for stop in (*range(start, 5), None):
            expected = nn.Sequential(*layers[start:stop])(values)
            assert torch.equal(network.run(values, start, stop), expected)
            names = {f"network.{i}.{part}" for i in range(4)[start:stop] for part in ("weight", "bias")}
            assert set(network.state_between(start, stop)) == names


def test_containers_are_opened_and_units_stay_whole() -> None:
    class Unit(nn.Sequential):
        """Convolution, normalisation, activation: one stage."""

    class Group(nn.Sequential):
        """Presets its parts, which have parts of their own."""

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.ReLU()

    network = nn.Module()
    network.stem = Unit(nn.Conv2d(3, 2, 1), nn.ReLU())
    network.body = nn.Sequential(Block(), nn.ModuleList([nn.ReLU(), Block()]), Group(Unit(nn.ReLU()), nn.Tanh()))
    network.head = nn.Linear(2, 2)
    names = ["stem", "body.0", "body.1.0", "body.1.1", "body.2.0", "body.2.1", "head"]
    assert flat_stages(network) == names
    assert flat_stages(network, "x.")[:2] == ["x.stem", "x.body.0"]
    assert flat_stages(network, opened=["body.0"])[:2] == ["stem", "body.0.inner"]


class Tail(nn.Module):
    """A classifier whose own forward calls what comes before its head as a function."""

    def __init__(self, between: str) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.aux1 = nn.Linear(4, 2)  # not on the way
        self.head = nn.Linear(4 * 8 * 8 if between == "flatten" else 4, 2)
        self.between = between

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        values = self.conv(images)
        if self.between == "flatten":
            return self.head(values.flatten(1))
        if self.between == "mean":
            return self.head(values.mean((2, 3)))
        if self.between == "relu":
            values = values.relu()
        return self.head(nn.functional.adaptive_avg_pool2d(values, 1).flatten(1))


@pytest.mark.parametrize(
    ("between", "added"),
    [
        ("flatten", ["flatten"]),
        ("mean", ["pool", "flatten"]),  # the same, bit for bit
        ("pool", ["pool", "flatten"]),
        ("relu", ["relu", "pool", "flatten"]),
    ],
)
def test_what_a_forward_calls_as_a_function_is_a_stage_of_its_own(between: str, added: list[str]) -> None:
    torch.manual_seed(0)
    network = Tail(between).eval()
    found = find_stages(network, "head", 10)
    assert found is not None
    names, pieces = found
    assert list(names) == ["conv", *added, "head"]
    staged = StagedNetwork(network, names, len(added) + 1, pieces)
    images = torch.randn(3, 3, 10, 10)
    torch.testing.assert_close(staged(images), network(images))


def test_a_head_that_starts_from_zero_is_no_reason_to_take_a_wrong_chain() -> None:
    """All outputs would be alike, whatever ran before; the zeros are zeros again afterwards."""
    network = Crossed(twisted_head=False)
    for parameter in network.heads.parameters():
        parameter.data.zero_()
    assert find_stages(network, "heads.0", 20) is None
    assert not any(parameter.any() for parameter in network.heads.parameters())
    norm = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    found = find_stages(norm, "4", 10)
    assert found == (("0", "1", "2", "3", "4"), {})
    assert norm[1].track_running_stats
    assert norm[1].training
    assert norm[1].running_mean.tolist() == [0] * 4


class Transformer(nn.Module):
    """What timm's vision transformers look like from outside: embedded tokens, blocks, norm, pooling, head."""

    def __init__(self, pooled_by: str = "avg", prefix: int = 1) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 6, 4, 4)
        self.first = nn.Parameter(torch.randn(1, prefix, 6))
        self.blocks = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 6))
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 3)
        self.global_pool, self.num_prefix_tokens = pooled_by, prefix

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        tokens = self.embed(images).flatten(2).mT
        tokens = self.norm(self.blocks(torch.cat([self.first.expand(len(images), -1, -1), tokens], 1)))
        pooled = {
            "token": lambda: tokens[:, 0],
            "avg": lambda: tokens[:, self.num_prefix_tokens :].mean(1),
            "all": lambda: tokens.mean(1),
            "": lambda: tokens,
        }
        return self.head(pooled[self.global_pool]())


@pytest.mark.parametrize("pooled_by", ["token", "avg", "all"])
def test_a_transformer_is_cut_at_each_of_its_blocks(pooled_by: str) -> None:
    torch.manual_seed(0)
    network = Transformer(pooled_by).eval()
    images = torch.randn(2, 3, 16, 16)
    expected = network(images)
    staged = split_blocks(network, 16)
    assert staged is not None
    assert staged.stage_names == ("body", "blocks.0", "blocks.1", "norm", "pool", "head")
    assert staged.head_start == 5
    assert torch.equal(staged(images), expected)
    assert torch.equal(staged.run(staged.run(images, 0, 3), 3, None), expected)


@pytest.mark.parametrize("lacks", ["blocks", "norm", "head", "global_pool"])
def test_what_only_resembles_a_transformer_is_left_as_it_is(lacks: str) -> None:
    torch.manual_seed(0)
    network = Transformer().eval()
    replaced = {"blocks": nn.Identity(), "norm": nn.Identity(), "head": nn.Identity()}
    if lacks == "global_pool":
        network.forward = lambda images: Transformer.forward(network, images)  # type: ignore[method-assign]
        network.global_pool = nn.Identity()  # type: ignore[assignment]
        assert split_blocks(network, 16) is None
        return
    delattr(network, lacks)
    network.lost = replaced[lacks]
    assert split_blocks(network, 16) is None
    assert isinstance(network.embed, nn.Conv2d)
    assert network.global_pool == "avg"


def test_a_transformer_that_does_more_after_its_blocks_stays_whole() -> None:
    class Odd(Transformer):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(images)

    torch.manual_seed(0)
    network = Odd().eval()
    images = torch.randn(2, 3, 16, 16)
    expected = network(images)
    assert split_blocks(network, 16) is None
    assert torch.equal(network(images), expected)
    assert network.global_pool == "avg"


def test_pooling_that_is_added_is_the_mean_over_height_and_width() -> None:
    values = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert _SpatialMean()(values).tolist() == [[5.5, 17.5]]
