"""Optimizers and schedules as the settings say."""

import pytest
from torch import nn
from torch.optim import SGD, Adam

from raylight.training.optimization import Optimization

COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": 100}


def parameters(n: int) -> list[nn.Parameter]:
    return list(nn.Linear(2, n).parameters())


@pytest.mark.parametrize(("rate", "expected"), [(None, [0.1, 0.01]), (0.5, [0.5, 0.05])])
def test_the_backbone_is_a_group_of_its_own_rate(rate: float | None, expected: list[float]) -> None:
    build = Optimization({"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}, None, per_phase=False)
    head, backbone = parameters(2), parameters(3)
    optimizer = build.build_optimizer(head, backbone, rate, 0.1)
    assert isinstance(optimizer, SGD)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(expected)
    assert [group["momentum"] for group in optimizer.param_groups] == [0.9, 0.9]
    assert [[id(p) for p in group["params"]] for group in optimizer.param_groups] == [
        [id(p) for p in head],
        [id(p) for p in backbone],
    ]
    assert build.build_schedule(optimizer, 5) is None


def test_a_backbone_alone_trains_at_the_full_rate() -> None:
    build = Optimization({"_target_": "torch.optim.Adam", "lr": 0.1}, None, per_phase=False)
    optimizer = build.build_optimizer([], parameters(3), None, 0.1)
    assert isinstance(optimizer, Adam)
    assert [group["lr"] for group in optimizer.param_groups] == [0.1]


@pytest.mark.parametrize(("per_phase", "length"), [(True, 4), (False, 100)])
def test_a_schedule_is_as_long_as_its_phase_where_it_shall(per_phase: bool, length: int) -> None:
    """A cosine is halfway down in the middle of its length."""
    build = Optimization({"_target_": "torch.optim.SGD", "lr": 1.0}, COSINE, per_phase)
    optimizer = build.build_optimizer(parameters(2), [], None, 1.0)
    schedule = build.build_schedule(optimizer, 4)
    assert schedule is not None
    for _ in range(length // 2):
        optimizer.step()
        schedule.step()
    assert schedule.get_last_lr() == pytest.approx([0.5])
