"""The stages of a run, in order."""

import csv

import pytest
from omegaconf import OmegaConf

from tests.pipeline.conftest import WorseningRun


def test_every_stage_is_booked_in_order(worsening: WorseningRun) -> None:
    cost = worsening.run.read_json("metrics.json")["cost"]
    stages = ["index", "decode", "audit", "start-up", "training", "testing", "reporting", "dashboard", "closing"]
    assert list(cost["seconds"]) == list(cost["cpu_seconds"]) == stages
    assert cost["images"] == 32
    status = worsening.run.read_json("status.json")
    assert (status["state"], status["exit_code"]) == ("finished", 0)
    assert sum(cost["seconds"].values()) <= status["seconds"] + 0.1


def test_the_objective_is_the_best_value_of_what_chooses_checkpoints(worsening: WorseningRun) -> None:
    with (worsening.run / "history.csv").open() as file:
        losses = [float(row["val/loss"]) for row in csv.DictReader(file)]
    assert losses == sorted(losses)  # it gets worse
    assert worsening.objective == pytest.approx(losses[0])
    provenance = worsening.run.read_json("metrics.json")["provenance"]
    assert (provenance["selected_by"], provenance["selected_epoch"]) == ("val/loss", 0)
    assert provenance["selected_value"] == pytest.approx(losses[0])


def test_epochs_follow_from_the_number_of_images(worsening: WorseningRun) -> None:
    """96 samples of 32 images, in all folds alike."""
    assert len((worsening.run / "history.csv").read_text().splitlines()) == 1 + 3
    assert OmegaConf.load(worsening.run / "config.yaml").trainer.max_epochs == 3
