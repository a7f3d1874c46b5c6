"""The phases that a run has follow from its weights and its epochs."""

from raylight.config.rules.recipe import recipe_of
from raylight.config.schema import FinetuneConfig, PhaseConfig, RunConfig


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
