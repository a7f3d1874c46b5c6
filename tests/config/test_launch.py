"""What ``train.py`` prints and returns where no job, or more than one, speaks for itself."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

from raylight.config.launch import checked_arguments, main, register_schema
from raylight.errors import ConfigError
from tests.composed import problems

CONF = Path(__file__).resolve().parents[2] / "conf"

Main = Callable[..., tuple[int, list[Any]]]


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Main]:
    """Run ``main`` in an empty folder, with a job that only notes its config and then does what it is told."""
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")

    def run(*arguments: str, then: Callable[[], Any] = lambda: None, code: int = 0) -> tuple[int, list[Any]]:
        configs = []

        def job(config: Any) -> Any:
            configs.append(config)
            then()
            return SimpleNamespace(exit_code=code, objective=None)

        monkeypatch.setattr("sys.argv", ["train.py", *arguments])
        return main(CONF, job, lambda config: []), configs

    yield run
    signal.signal(signal.SIGTERM, handler)


def test_the_exit_code_is_the_jobs(start: Main) -> None:
    assert start()[0] == 0
    assert start(code=2)[0] == 2


def test_a_process_that_is_terminated_ends_with_143(start: Main) -> None:
    """128 + SIGTERM, as shells have it."""
    assert start(then=lambda: os.kill(os.getpid(), signal.SIGTERM))[0] == 128 + signal.SIGTERM


def test_an_interrupted_start_ends_with_130(start: Main) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    assert start(then=interrupt)[0] == 130


def test_a_run_folder_that_cannot_be_made_is_named_on_stderr(start: Main, capfd: pytest.CaptureFixture[str]) -> None:
    code, configs = start("hydra.run.dir=/dev/null/run")
    output = capfd.readouterr()
    assert (code, configs, output.out) == (1, [], "")
    assert "/dev/null/run: Not a directory" in output.err
    assert "hydra.run.dir=PATH" in output.err


def test_mistakes_are_named_on_stderr_with_exit_code_2(start: Main, capfd: pytest.CaptureFixture[str]) -> None:
    code, configs = start("modle=cnn2")
    output = capfd.readouterr()
    assert (code, configs, output.out) == (2, [], "")
    assert "modle: there is no such setting; did you mean 'model'?" in output.err


def test_a_class_named_for_the_model_brings_its_option_into_what_is_shown(
    start: Main, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _ = start("--cfg", "job", "--package", "model", "+model._target_=torchvision.models.MobileNetV2")
    output = capfd.readouterr()
    assert code == 0
    assert "family: own" in output.out
    assert "_target_: torchvision.models.MobileNetV2" in output.out


def test_relative_paths_are_meant_from_where_the_command_was_started(start: Main, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    _, (config,) = start("data=folder", "data.root=photos")
    assert config.data.root == str(tmp_path / "photos")


def test_a_sweep_repeated_from_elsewhere_starts_where_it_was_started(start: Main, tmp_path: Path) -> None:
    (tmp_path / "home" / "photos").mkdir(parents=True)
    sweep = tmp_path / "sweep"
    sweep.mkdir()
    command = {"hydra": [f"hydra.sweep.dir={sweep}"], "task": ["data=folder", "data.root=photos", "seed=1,2"]}
    recorded = {"hydra": {"runtime": {"cwd": str(tmp_path / "home")}, "overrides": command}}
    OmegaConf.save(OmegaConf.create(recorded), sweep / "multirun.yaml")
    code, configs = start(f"resume={sweep}")
    assert code == 0
    assert [(config.data.root, config.seed) for config in configs] == [
        (str(tmp_path / "home" / "photos"), 1),
        (str(tmp_path / "home" / "photos"), 2),
    ]


def test_hydras_own_groups_are_known_and_their_options_checked() -> None:
    assert checked_arguments(CONF, ["hydra/job_logging=none"]) == ["hydra/job_logging=none"]
    with pytest.raises(Exception, match="hydra/job_logging: there is no option 'nnoe'; did you mean 'none'"):
        checked_arguments(CONF, ["hydra/job_logging=nnoe"])


def test_a_sweep_fails_where_any_job_does(start: Main) -> None:
    code, configs = start("-m", "seed=1,2", code=2)
    assert (code, [config.seed for config in configs]) == (1, [1, 2])


def test_each_problem_is_told_once_however_many_jobs_have_it(start: Main, capfd: pytest.CaptureFixture[str]) -> None:
    code, configs = start("-m", "seed=1,2", "trainer.monitor=val/los")
    told = capfd.readouterr().err
    assert (code, configs) == (2, [])
    assert told.startswith("1 problem in the configuration:\n  - trainer.monitor: 'val/los' can't choose")
    assert told.count("trainer.monitor: 'val/los'") == 1


def test_what_is_rehearsed_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    register_schema()
    seen: list[int] = []

    def rehearse(run: Any) -> list[str]:
        seen.append(run.seed)
        return [f"seed: {run.seed} is odd"] if run.seed % 2 else []

    with pytest.raises(ConfigError) as refused:
        checked_arguments(CONF, ["-m", "seed=1,2,3"], rehearse)
    assert refused.value.problems == ("seed: 1 is odd", "seed: 3 is odd")
    assert seen == [1, 2, 3]


def test_a_config_of_ones_own_is_found_or_named(tmp_path: Path) -> None:
    register_schema()
    with pytest.raises(ConfigError, match=f"--config-name: there is no nope.yaml in {tmp_path}"):
        checked_arguments(CONF, ["--config-path", str(tmp_path), "--config-name", "nope"])


def test_pluses_are_put_where_hydra_wants_them() -> None:
    register_schema()
    given = ["+seed=3", "++notes=x", "optimizer.weight_decay=0.1", "+optimizer.amsgrad=true"]
    assert checked_arguments(CONF, given) == [
        "seed=3", "++notes=x", "++optimizer.weight_decay=0.1", "++optimizer.amsgrad=true"
    ]  # fmt: skip


def test_a_pattern_that_fits_no_option_and_several_values_without_a_sweep_are_one_problem_each() -> None:
    (none,) = problems("-m", "optimizer=glob(zz*)")
    assert none.startswith("optimizer=glob(zz*): matches none of the options, which are adam, adamw")
    assert problems("-m", "optimizer=glob(ad*)") == []
    (several,) = problems("model=cnn2,cnn3")
    assert "gives several values; sweep over them with -m" in several


def test_help_lists_every_group_from_few_copies_of_the_options(
    start: Main, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    from hydra._internal.config_loader_impl import CachingConfigRepository, ConfigLoaderImpl

    made: list[object] = []
    copying, parsing = CachingConfigRepository.__init__, ConfigLoaderImpl._parse_overrides_and_create_caching_repo
    monkeypatch.setattr(CachingConfigRepository, "__init__", lambda *args: made.append(args) or copying(*args))
    assert start("--help")[0] == 0
    said = capfd.readouterr().out
    for folder in (path for path in CONF.iterdir() if path.is_dir()):
        options = ", ".join(sorted(file.stem for file in folder.glob("*.yaml")))
        assert f"{folder.name}: {options}" in said
    assert len(made) <= 3  # it was a hundred
    assert ConfigLoaderImpl._parse_overrides_and_create_caching_repo is parsing
