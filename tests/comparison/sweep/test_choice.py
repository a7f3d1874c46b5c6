"""Which configuration validation chooses, and how much that flatters it."""

import csv
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from raylight.comparison.sweep.files import markdown, write_sweep
from raylight.comparison.sweep.table import sweep_table
from raylight.config.schema import RunConfig
from tests.comparison.jobs import job
from tests.comparison.run_folders import run_folder


def test_validation_chooses_whatever_test_says(tmp_path: Path) -> None:
    for number, (model, accuracy, loss) in enumerate(
        [("a", 0.95, 0.4), ("a", 0.97, 0.5), ("b", 0.9, 0.3), ("b", 0.8, 0.2)]
    ):
        job(tmp_path, number, f"model={model}", f"seed={number % 2}", accuracy=accuracy, validation=("val/loss", loss))
    table = sweep_table(tmp_path)
    assert table.choice is not None
    assert (table.choice.by, table.choice.row.name, table.choice.candidates) == ("val/loss", "model=b", 2)
    text = markdown(table)
    assert "| configuration | runs | val/loss |" in text
    assert "| **model=b** | 2 | 0.250 ± 0.071 |" in text
    assert "| model=a | 2 | 0.450 ± 0.071 |" in text
    page = write_sweep(table)["html"].read_text()
    assert page.count("chosen by validation") == 1
    with (tmp_path / "comparison.csv").open() as file:
        assert [row["chosen"] for row in csv.DictReader(file)] == ["0", "1"]


def test_losses_of_different_loss_settings_do_not_choose(tmp_path: Path) -> None:
    for number, (loss, accuracy, value) in enumerate([("focal", 0.8, 0.1), ("cross_entropy", 0.9, 0.3)]):
        job(tmp_path, number, f"loss={loss}", accuracy=accuracy, validation=("val/loss", value))
    choice = sweep_table(tmp_path).choice
    assert choice is not None
    assert (choice.by, choice.row.name) == ("val/accuracy", "loss=cross_entropy")


@pytest.mark.parametrize(
    ("modes", "chosen"), [(("min", "min"), "model=a"), (("max", "max"), "model=b"), (("min", "max"), None)]
)
def test_an_own_metric_is_chosen_by_as_the_checkpoints_were(
    modes: tuple[str, str], chosen: str | None, tmp_path: Path
) -> None:
    for number, (model, error, mode) in enumerate(zip("ab", (0.1, 0.4), modes, strict=True)):
        folder = job(tmp_path, number, f"model={model}", accuracy=0.9, validation=("val/mae", error))
        config = RunConfig(optimizer={"_target_": "torch.optim.SGD"})
        config.trainer.monitor, config.trainer.monitor_mode = "val/mae", mode
        OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml")
    choice = sweep_table(tmp_path).choice
    assert (choice and choice.row.name) == chosen


def test_the_flattery_of_the_best_is_estimated_from_the_validation_images(tmp_path: Path) -> None:
    """Twelve equal recipes, each right on 9 of 10 images in truth: the best of them looks better than that."""
    rng = np.random.default_rng(0)
    for number in range(12):
        wrong = set(np.flatnonzero(rng.uniform(size=40) < 0.1).tolist())
        run_folder(
            tmp_path / f"sweep/{number}", tmp_path / "data", wrong, split="val", overrides=(f"optimizer.lr={number}",)
        )
    table = sweep_table(tmp_path / "sweep")
    assert table.choice is not None
    assert table.choice.candidates == 12
    assert table.choice.optimism is not None
    assert 0.02 < table.choice.optimism < 0.12
    assert f"too high by about {table.choice.optimism:.3f}" in markdown(table)
