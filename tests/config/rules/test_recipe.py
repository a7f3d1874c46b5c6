"""The phases that a run has follow from its weights and its epochs."""

import pytest

from raylight.config.rules.recipe import planned_epochs, recipe_of, shares_to_epochs, with_epochs
from raylight.config.schema import FinetuneConfig, PhaseConfig, RunConfig, TrainerConfig


def test_one_epoch_goes_to_the_head_and_a_network_without_weights_trains_as_a_whole() -> None:
    run = RunConfig()
    run.finetune = FinetuneConfig(
        phases=[PhaseConfig("head", share=0.5), PhaseConfig("last_blocks")], without_weights=[PhaseConfig("all")]
    )
    run.model.weights, run.trainer.max_epochs = "DEFAULT", 1
    assert [(phase.train_from, phase.epochs) for phase in recipe_of(run).phases] == [("head", 1)]
    run.trainer.max_epochs = 3
    assert [(phase.train_from, phase.epochs) for phase in recipe_of(run).phases] == [("head", 2), ("last_blocks", None)]
    run.model.weights = None
    assert recipe_of(run).phases == [PhaseConfig("all")]


@pytest.mark.parametrize(
    ("given", "epochs", "expected"),
    [
        ([(0.5, None), (None, None)], 5, [3, None]),  # rounded up
        ([(0.2, None), (0.3, None), (None, None)], 10, [2, 3, None]),
        ([(0.25, None), (None, 3), (None, None)], 8, [2, 3, None]),
        ([(0.5, None), (None, 9), (None, None)], 8, [4, 4]),  # no more than what is left, and none for the last
        ([(1.0, None), (None, None)], 4, [4]),
        ([(0.6, None), (0.6, None)], 5, [3, 2]),
        ([(None, None), (0.5, None)], 5, [None]),  # an open phase takes all
    ],
)
def test_shares_are_epochs_of_what_is_left(
    given: list[tuple[float | None, int | None]], epochs: int, expected: list[int | None]
) -> None:
    phases = [PhaseConfig(f"stage{i}", share=share, epochs=length) for i, (share, length) in enumerate(given)]
    found = shares_to_epochs(phases, epochs)
    assert [phase.epochs for phase in found] == expected
    assert [phase.train_from for phase in found] == [f"stage{i}" for i in range(len(expected))]
    assert all(phase.share is None for phase in found)


def test_phases_without_shares_stay_as_they_are() -> None:
    run = RunConfig()
    run.finetune.phases = [PhaseConfig("head", epochs=99), PhaseConfig("all")]
    assert recipe_of(run) == run.finetune


def open_end(most: int = 12, **trainer: object) -> RunConfig:
    scheduler = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "T_max": None, "eta_min": None}
    finetune = FinetuneConfig(samples=20_000, most_epochs=most)
    return RunConfig(finetune=finetune, trainer=TrainerConfig(max_epochs=None, **trainer), scheduler=scheduler)


@pytest.mark.parametrize(
    ("images", "epochs"),
    [(0, 12), (100, 12), (1_666, 12), (2_002, 10), (4_000, 5), (6_000, 3), (10**6, 3)],  # 20,000 / images, 3 to 12
)
def test_epochs_follow_from_the_number_of_images(images: int, epochs: int) -> None:
    assert planned_epochs(open_end(), images) == epochs
    settled = with_epochs(open_end(), images)
    assert (settled.trainer.max_epochs, settled.scheduler["T_max"]) == (epochs, epochs)
    assert settled.scheduler["eta_min"] is None  # no length


def test_typed_epochs_win() -> None:
    run = open_end()
    run.trainer.max_epochs = 40
    assert planned_epochs(run, 10**6) == 40
    run.scheduler["T_max"] = 7
    assert with_epochs(run, 10**6).scheduler["T_max"] == 7
