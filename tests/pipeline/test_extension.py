"""More epochs for a run: nothing else may change, and what can't equal a run of so many epochs from the start is told."""

from dataclasses import replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raylight.config.check import load_config
from raylight.config.schema import PhaseConfig, RunConfig
from raylight.errors import ConfigError
from raylight.pipeline.extension import asked_epochs, extended

COSINE = {"_target_": "torch.optim.lr_scheduler.CosineAnnealingLR", "_partial_": True, "T_max": 10}
SHARED = [PhaseConfig(train_from="head", share=0.5), PhaseConfig(train_from="all")]


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    """A run of ten epochs."""
    settings = OmegaConf.structured(RunConfig)
    settings.data.root = str(tmp_path)
    settings.model.channels = [4]
    settings.optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.1}
    return load_config(settings)


@pytest.mark.parametrize(
    ("typed", "expected"),
    [([], None), (["trainer.max_epochs=20"], 20), (["++trainer.max_epochs=20"], 20)],
)
def test_epochs_are_what_may_change(typed: list[str], expected: int | None) -> None:
    assert asked_epochs(typed) == expected


def test_everything_else_is_refused_at_once_with_the_way_out() -> None:
    with pytest.raises(ConfigError) as refused:
        asked_epochs(["trainer.max_epochs=ten", "seed=2", "20"])
    number, seed, word = refused.value.problems
    assert number == "trainer.max_epochs: 'ten' is not a whole number"
    assert "only trainer.max_epochs may change" in seed
    assert seed.endswith("--config-path RUN --config-name config seed=2")
    assert word == "20: is no setting; write trainer.max_epochs=N"


def test_a_schedule_over_all_epochs_is_over_all_of_them_again_and_another_keeps_its_length(config: RunConfig) -> None:
    longer, told = extended(replace(config, scheduler=COSINE), 20, 10, finished=True)
    assert longer.trainer.max_epochs == longer.scheduler["T_max"] == 20
    assert told == ["trainer.max_epochs: 10 before, 20 now; 10 are done."]
    own, _ = extended(replace(config, scheduler=COSINE | {"T_max": 7}), 20, 10, finished=True)
    assert own.scheduler["T_max"] == 7


def test_the_first_phases_keep_their_lengths_and_the_last_one_takes_the_rest(config: RunConfig) -> None:
    two = replace(config, finetune=replace(config.finetune, phases=[PhaseConfig("head", 4), PhaseConfig("all", 6)]))
    longer, _ = extended(two, 20, 10, finished=True)
    assert [phase.epochs for phase in longer.finetune.phases] == [4, None]
    shared = replace(config, finetune=replace(config.finetune, phases=SHARED))
    longer, told = extended(shared, 20, 10, finished=True)
    assert [(phase.epochs, phase.share) for phase in longer.finetune.phases] == [(5, None), (None, None)]
    assert "keep their length, unlike in a run of so many epochs from the start" in told[1]
    begun, told = extended(shared, 20, 0, finished=False)  # nothing is done, so that everything is as from the start
    assert begun.finetune == shared.finetune
    assert len(told) == 1


def test_what_cannot_be_had_is_refused(config: RunConfig) -> None:
    with pytest.raises(ConfigError, match=r"max_epochs: 9, but 10 epochs are done already; ask for more"):
        extended(config, 9, 10, finished=True)
    with pytest.raises(ConfigError, match=r"stopped early, after epoch 7 of 10 .* trainer\.patience=null"):
        extended(config, 20, 7, finished=True)
    two = replace(config, finetune=replace(config.finetune, phases=[PhaseConfig("head", 4), PhaseConfig("all")]))
    with pytest.raises(ConfigError, match="leaves no epoch for the last phase"):
        extended(two, 4, 2, finished=False)
    assert extended(config, 8, 7, finished=False)[0].trainer.max_epochs == 8  # one that was stopped may be shortened
