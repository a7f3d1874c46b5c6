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
