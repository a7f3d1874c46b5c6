"""The model card claims only what is true of the run."""

import json

from omegaconf import OmegaConf

from raylight.report.facts import RunFacts
from raylight.report.model_card import escape_markdown, render_model_card
from raylight.report.run_page import write_report
from tests.finished_run import FinishedRun


def test_a_run_of_a_sweep_does_not_claim_that_nobody_chose_by_test(finished: FinishedRun) -> None:
    alone = render_model_card(RunFacts(finished.run))
    assert "nor in choosing the checkpoint, the threshold or the temperature" in alone
    assert "optimistic" not in alone
    config = OmegaConf.load(finished.run / "config.yaml")
    config.logger.group = "a sweep"
    finished.run.write_text("config.yaml", OmegaConf.to_yaml(config))
    assert "if it was chosen by its test results, they are optimistic" in render_model_card(RunFacts(finished.run))


def test_the_model_card_holds_the_same_numbers(finished):
    write_report(finished.run)
    card = (finished.run / "model_card.md").read_text()
    recall = json.loads((finished.run / "metrics.json").read_text())["test/recall"]
    assert f"| recall | {recall['value']:.3f} | {recall['low']:.3f} to {recall['high']:.3f} | 8 |" in card
    assert "| dog | 8 | 8 | 8 |" in card
    assert "<script>" not in card.replace("\\<script\\>", "")
    assert "refer to the class **dog**" in card
    for command in ("raylight predict", "raylight evaluate", "--config-name config"):
        assert command in card
    assert "16 test images determine the accuracy only to between" in card


def test_markdown_is_escaped():
    assert escape_markdown("a|b *c*\n<d>") == r"a\|b \*c\* \<d\>"
