"""A recipe's settings reach the steps of its phases."""

import dataclasses
from pathlib import Path

import pytest
import torch

from raylight.config.schema import FinetuneConfig, PhaseConfig
from raylight.models.build import build_network
from raylight.models.freezing import constant_until
from raylight.training.phases import MOST_VIEWS, Phase, describe_views, int8_problems, phase_at, plan_phases
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


@pytest.mark.parametrize(("asked", "epochs", "views"), [(None, 3, 3), (None, 40, MOST_VIEWS), (0, 9, 0), (25, 9, 25)])
def test_a_frozen_part_has_a_view_an_epoch_up_to_ten_unless_told(asked: int | None, epochs: int, views: int) -> None:
    network = build_network(MODEL, 2)
    recipe = FinetuneConfig(phases=[PhaseConfig(train_from="head")], views=asked)
    (phase,) = plan_phases(network, recipe, epochs, None)
    assert (phase.boundary, phase.views) == (network.head_start, views)
    assert phase.input_stage == constant_until(network, network.head_start) > 0
    (uncached,) = plan_phases(network, dataclasses.replace(recipe, cache=False), epochs, None)
    assert uncached.input_stage == 0
    (whole,) = plan_phases(network, FinetuneConfig(phases=[PhaseConfig(train_from="all")]), epochs, None)
    assert (whole.boundary, whole.input_stage, whole.batch_norm) == (0, 0, False)


@pytest.mark.parametrize(("asked", "views"), [(None, 4), (0, 0), (1, 1), (25, 25)])
def test_a_head_is_solved_on_four_views_unless_told(asked: int | None, views: int) -> None:
    network = build_network(dataclasses.replace(MODEL, dense=[]), 2)
    recipe = FinetuneConfig(phases=[PhaseConfig(train_from="head", solve=True)], views=asked)
    (phase,) = plan_phases(network, recipe, 1, None)
    assert (phase.solve, phase.views) == (True, views)


def test_a_phase_that_trains_batch_norm_knows_it() -> None:
    network = build_network(dataclasses.replace(MODEL, batch_norm=True), 2)
    recipe = FinetuneConfig(phases=[PhaseConfig(train_from="head", epochs=1), PhaseConfig(train_from="all")])
    assert [phase.batch_norm for phase in plan_phases(network, recipe, 3, None)] == [False, True]


def test_what_augmentation_comes_to_is_told() -> None:
    def told(*phases: tuple[int, int, int]) -> str | None:
        return describe_views([Phase(0, epochs, 3, stage, None, 1.0, views=views) for epochs, stage, views in phases])

    assert told((5, 0, 5)) is None
    assert (
        told((5, 3, 5), (4, 0, 4))
        == "Frozen layers: 5 augmented views per image, one per epoch in turn (finetune.views)."
    )
    assert told((5, 3, 1)) == "Frozen layers: 1 augmented view per image, the same in every epoch (finetune.views)."
    assert told((1, 3, 1)) == "Frozen layers: 1 augmented view per image, one per epoch in turn (finetune.views)."
    assert told((1, 3, 1), (9, 2, 9)) == (
        "Frozen layers: 1 augmented view and then 9 augmented views per image, one per epoch in turn (finetune.views)."
    )
    left_out = told((5, 3, 0))
    assert left_out is not None
    assert left_out.endswith("augmentation is left out below the layers that train (finetune.views=0).")


@pytest.mark.parametrize(
    ("processor", "phases", "problems"),
    [
        (True, [Phase(0, 1, 2, 2, None, 1.0)], []),
        (True, [Phase(0, 1, 2, 1, None, 1.0, solve=True), Phase(1, 1, 1, 1, None, 1.0)], []),
        (False, [Phase(0, 1, 2, 2, None, 1.0)], ["has no int8 instructions"]),
        (True, [Phase(0, 1, 2, 0, None, 1.0)], ["no layers are frozen and cached"]),
        (True, [Phase(0, 1, 1, 1, None, 1.0), Phase(1, 1, 2, 2, None, 1.0)], ["that an earlier one trains"]),
    ],
)
def test_int8_needs_a_processor_and_layers_that_stay_frozen(
    processor: bool, phases: list[Phase], problems: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raylight.training.phases.int8_supported", lambda: processor)
    found = list(int8_problems(build_network(MODEL, 2), phases))
    assert len(found) == len(problems)
    assert all(part in line and "features_precision=auto" in line for part, line in zip(problems, found, strict=True))
