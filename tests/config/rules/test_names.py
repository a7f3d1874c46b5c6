"""Names that W&B, a file system or a run folder refuses, judged by W&B's own checks."""

from pathlib import Path

import pytest
import wandb
from omegaconf import OmegaConf

from raylight.config.launch import register_schema
from raylight.config.rules.names import artifact_name, fitting_tag, folder_name, name_problems
from raylight.config.schema import DataConfig, LoggerConfig, RunConfig

ODD = ["my cats", "müll", "a:b", "a+b", "a & b", "猫", "x" * 200, "", "a/b\\c", "-", "demo"]


@pytest.mark.parametrize("name", ODD)
def test_made_up_names_are_accepted_by_wandb(name: str) -> None:
    wandb.Artifact(artifact_name(f"split-{name}"), type="split")
    wandb.Settings(run_tags=(fitting_tag(name),))


def test_two_names_never_become_one_and_a_good_one_stays() -> None:
    assert len({artifact_name(f"split-{name}") for name in ODD}) == len(ODD)
    assert len({fitting_tag("x" * 100 + end) for end in "abc"}) == 3
    assert (artifact_name("split-demo"), fitting_tag("my cats")) == ("split-demo", "my cats")


@pytest.mark.parametrize(
    ("setting", "value", "accepted"),
    [("project", text, False) for text in ("a/b", "a#b", "x" * 129, "50%")]
    + [("project", text, True) for text in ("cats & dogs", "x" * 128)]
    + [("tags", [text], False) for text in ("", "x" * 65)]
    + [("tags", ["x" * 64, "a/b"], True)],
)
def test_what_wandb_would_refuse_is_refused_before_work(setting: str, value: object, accepted: bool) -> None:
    found = list(name_problems(RunConfig(logger=LoggerConfig(**{setting: value}))))
    assert [problem.startswith(f"logger.{setting}: ") for problem in found] == [True] * (not accepted)
    try:
        wandb.Settings(**{{"tags": "run_tags"}.get(setting, setting): value})
        assert accepted
    except (ValueError, wandb.errors.UsageError):
        assert not accepted
    assert not list(name_problems(RunConfig(logger=LoggerConfig(name="csv", **{setting: value}))))


def test_wandbs_mode_in_the_environment_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "bogus")
    (problem,) = name_problems(RunConfig())
    assert problem == "WANDB_MODE: 'bogus' in the environment is not one of online, offline, disabled"


@pytest.mark.parametrize("name", ["../../x", "a/b", "..\\x", "", "  "])
def test_a_data_sets_name_is_no_path(name: str) -> None:
    (problem,) = name_problems(RunConfig(data=DataConfig(name=name), logger=LoggerConfig(name="csv")))
    assert problem.startswith("data.name: ")


@pytest.mark.parametrize("name", ["hf-hub:timm/vit", "../../up", "x" * 300, "it's"])
def test_a_run_folder_is_two_below_outputs_whatever_the_model_is_called(name: str, tmp_path: Path) -> None:
    from hydra.core.config_store import ConfigStore

    register_schema()
    settings = ConfigStore.instance().load("hydra/config.yaml").node
    config = OmegaConf.create({"data": {"name": "cats"}, "model": {"name": name}, "hydra": settings})
    OmegaConf.register_new_resolver("now", lambda _: "today", replace=True)
    folder = Path(config.hydra.run.dir)
    assert folder.parts[0] == "outputs"
    assert folder.parts[1] == folder_name(f"cats-{name}")
    assert len(folder.parts) == 3
    (tmp_path / folder).mkdir(parents=True)
    assert (tmp_path / folder).resolve().is_relative_to(tmp_path / "outputs")


@pytest.mark.parametrize("length", [1, 64, 65, 200])
def test_tags_and_artifacts_are_as_long_as_wandb_takes_them(length: int) -> None:
    name = "x" * length
    assert fitting_tag(name) == name if length <= 64 else len(fitting_tag(name)) == 64
    for count, same in ((128, True), (129, False)):
        made = artifact_name("y" * count)
        assert (made == "y" * count) == same
        assert len(made) == 128
    assert 0 < len(fitting_tag("")) <= 64


def test_a_folders_name_is_cut_and_never_empty() -> None:
    assert folder_name("") == "_"
    assert folder_name("x" * 101) == "x" * 100
    assert folder_name("x" * 9, limit=4) == "xxxx"
    assert folder_name('a/b\\c:d*e?f"g<h>i|j\nk') == "a_b_c_d_e_f_g_h_i_j_k"


@pytest.mark.parametrize("setting", ["group", "entity"])
@pytest.mark.parametrize(("length", "accepted"), [(None, True), (0, False), (1, True), (128, True), (129, False)])
def test_groups_and_entities_have_one_to_128_characters(setting: str, length: int | None, accepted: bool) -> None:
    value = None if length is None else "x" * length
    found = list(name_problems(RunConfig(logger=LoggerConfig(**{setting: value}))))  # type: ignore[arg-type]
    assert found == ([] if accepted else [f"logger.{setting}: W&B refuses {value!r}; it has 1 to 128 characters"])


@pytest.mark.parametrize("length", [0, 1, 128, 129])
def test_a_project_has_one_to_128_characters(length: int) -> None:
    found = list(name_problems(RunConfig(logger=LoggerConfig(project="x" * length))))
    assert len(found) == (length in (0, 129))


@pytest.mark.parametrize("mode", ["online", "offline", "disabled", "shared", "dryrun", "run"])
def test_wandbs_own_modes_are_taken(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    assert list(name_problems(RunConfig())) == []
