"""Learning rates, epoch by epoch, equal those computed by hand."""

import pytest
import torch

from raylight.training.schedules import WarmupCosine


def test_a_warm_up_rises_in_equal_steps_and_a_cosine_falls_to_zero() -> None:
    """Three epochs of warm-up and four of the cosine: (1 + cos(k pi / 4)) / 2."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2.0)
    schedule = WarmupCosine(optimizer, warmup_epochs=3, epochs=7)
    rates = []
    for _ in range(9):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx([0.5, 1.0, 1.5, 2.0, 1.7071068, 1.0, 0.2928932, 0.0, 0.0], abs=1e-6)


@pytest.mark.parametrize(
    ("warmup", "epochs", "expected"),
    [
        (0, 2, [1.0, 0.5, 0.0, 0.0]),
        (2, 2, [1 / 3, 2 / 3, 1.0, 0.0]),
        (1, 2, [0.5, 1.0, 0.0, 0.0]),
        (3, 2, [0.25, 0.5, 0.75, 1.0]),
    ],
)
def test_a_schedule_without_a_warm_up_or_without_a_cosine(warmup: int, epochs: int, expected: list[float]) -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = WarmupCosine(optimizer, warmup_epochs=warmup, epochs=epochs)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    assert rates == pytest.approx(expected, abs=1e-9)
