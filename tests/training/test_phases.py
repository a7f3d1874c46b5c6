"""A recipe's settings reach the steps of its phases."""

from pathlib import Path

import pytest
import torch

from raylight.config.schema import FinetuneConfig, PhaseConfig
from raylight.models.build import build_network
from raylight.training.phases import Phase, phase_at, plan_phases
from tests.training.tiny import MODEL, classifier, trained


def test_phases_follow_each_other_with_the_rates_of_the_recipe() -> None:
    network = build_network(MODEL, 2)
    head = PhaseConfig(train_from="head", epochs=2)
    whole = PhaseConfig(train_from="all", learning_rate=0.01, backbone_factor=0.3)
    phases = plan_phases(network, FinetuneConfig(phases=[head, whole], cache=False), 7, None)
    assert phases == (Phase(0, 2, network.head_start, 0, None, 1.0, views=2), Phase(2, 5, 0, 0, 0.01, 0.3, views=5))
    assert [phases.index(phase_at(phases, epoch)) for epoch in range(8)] == [0, 0, 1, 1, 1, 1, 1, 1]


def test_the_backbone_moves_by_its_factor_and_the_head_at_the_full_rate(tmp_path: Path) -> None:
    """One step of SGD from the same start, at a rate of 0.5 of the phase."""
    moved = {}
    for factor in (1.0, 0.1):
        learner = classifier(phases=(Phase(0, 1, 0, 0, 0.5, factor),))
        before = {name: value.detach().clone() for name, value in learner.named_parameters()}
        trained(tmp_path / str(factor), learner, batch_size=20, max_epochs=1)
        moved[factor] = {name: value.detach() - before[name] for name, value in learner.named_parameters()}
    network = learner.network
    in_head = {
        id(p)
        for position in range(network.head_start, len(network.stage_names))
        for p in network.stage(position).parameters()
    }
    share = {name: 1.0 if id(parameter) in in_head else 0.1 for name, parameter in learner.named_parameters()}
    assert set(share.values()) == {1.0, 0.1}
    for name, step in moved[1.0].items():
        torch.testing.assert_close(moved[0.1][name], share[name] * step, atol=2e-6, rtol=1e-3)
    assert any(float(step.abs().max()) > 1e-4 for name, step in moved[1.0].items() if share[name] == pytest.approx(0.1))
