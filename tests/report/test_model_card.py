"""The model card claims only what is true of the run."""

from omegaconf import OmegaConf

from raylight.report.facts import RunFacts
from raylight.report.model_card import render_model_card
from tests.finished_run import FinishedRun


def test_a_run_of_a_sweep_does_not_claim_that_nobody_chose_by_test(finished: FinishedRun) -> None:
    alone = render_model_card(RunFacts(finished.run))
    assert "nor in choosing the checkpoint, the threshold or the temperature" in alone
    assert "flattered" not in alone
    config = OmegaConf.load(finished.run / "config.yaml")
    config.logger.group = "a sweep"
    finished.run.write_text("config.yaml", OmegaConf.to_yaml(config))
    assert "if it was picked from it by its test numbers, they are flattered" in render_model_card(
        RunFacts(finished.run)
    )
