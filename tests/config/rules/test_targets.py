"""Somebody else's config: nothing in it runs code, reads secrets, or widens its own rights."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from raylight.config.launch import checked_arguments, load_config, register_schema
from raylight.config.rules.targets import ALLOWING
from raylight.config.schema import RunConfig
from raylight.errors import ConfigError

CONF = Path(__file__).resolve().parents[3] / "conf"
ADAM = {"_target_": "torch.optim.Adam", "_partial_": True}


@pytest.fixture(autouse=True)
def nothing_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWING, "")


def problems(**changes: Any) -> str:
    config = OmegaConf.structured(RunConfig)
    for key, value in {"data.kind": "demo", "optimizer": ADAM, "model.channels": [4], **changes}.items():
        OmegaConf.update(config, key, value, force_add=True)
    try:
        load_config(config)
    except ConfigError as error:
        return str(error)
    return ""


def test_the_config_is_good_without_the_attack() -> None:
    assert problems() == ""


TARGETS = [
    "os.system",
    "builtins.exec",
    "subprocess.Popen",
    "torch.hub.load",
    "torch.load",
    "torch.utils.collect_env.run",
    "torch.utils.cpp_extension.load_inline",
    "torch.serialization.load",
    "raylight.runs.run_dir.write_atomically",
    "torch.nn.Linear",
    "torch.os.system",
]
PLACES = ["optimizer", "scheduler", "augment.transforms", "model"]
# A module is a transform and a network, if a useless one.
REFUSED = [
    (where, target)
    for where in PLACES
    for target in TARGETS
    if where not in ("augment.transforms", "model") or target != "torch.nn.Linear"
]


@pytest.mark.parametrize(("where", "target"), REFUSED)
def test_nothing_but_optimizers_schedules_and_transforms_is_built(where: str, target: str) -> None:
    node: Any = {"_target_": target}
    changes = {"model": {"model.family": "own", "model._target_": target}, "augment.transforms": {where: [node]}}
    found = problems(**changes.get(where, {where: node}))
    assert where in found
    assert any(words in found for words in ("not from a trusted package", "nothing else may be called", "no module"))


@pytest.mark.parametrize(
    "arguments",
    [
        {"transforms": [{"_target_": "torch.hub.load"}]},
        {"transforms": [[{"_target_": "os.system"}]]},
        {"transforms": [{"deeper": {"_target_": "os.system"}}]},
        {"_args_": [[{"_target_": "os.system"}]]},
        {"transforms": [{"_target_": "torchvision.transforms.v2.Lambda", "lambd": {"_target_": "builtins.eval"}}]},
    ],
)
def test_nested_nodes_are_held_to_the_same_rule(arguments: dict[str, Any]) -> None:
    node = {"_target_": "torchvision.transforms.v2.RandomApply", **arguments}
    assert "augment.transforms[0]." in problems(**{"augment.transforms": [node]})


def test_a_config_does_not_widen_its_own_rights(monkeypatch: pytest.MonkeyPatch) -> None:
    foreign = {"allowed_targets": ["builtins"], "optimizer": {"_target_": "builtins.print"}}
    assert "comes with trust in builtins of its own" in problems(**foreign)
    monkeypatch.setenv(ALLOWING, "builtins")
    assert "allowed_targets" not in problems(**foreign)


def test_the_command_line_may_widen_them(tmp_path: Path) -> None:
    register_schema()
    with pytest.raises(ConfigError, match=r"not from a trusted package .*allowed_targets=\[collections\]"):
        checked_arguments(CONF, ["optimizer._target_=collections.OrderedDict"])
    checked_arguments(CONF, ["optimizer._target_=collections.OrderedDict", "allowed_targets=[collections]"])


HOSTILE = """
defaults: [schema, _self_]
optimizer: {_target_: torch.optim.Adam, _partial_: true}
model: {channels: [4]}
data: {kind: demo}
"""


def test_a_foreign_config_file_without_an_attack_is_taken(tmp_path: Path) -> None:
    register_schema()
    (tmp_path / "config.yaml").write_text(HOSTILE)
    checked_arguments(CONF, ["--config-path", str(tmp_path), "--config-name", "config"])


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("hydra: {callbacks: {mine: {_target_: os.system, command: id}}}", "hydra.callbacks: a config from elsewhere"),
        ("hydra: {launcher: {_target_: subprocess.Popen}}", "hydra.launcher: a config from elsewhere"),
        ("hydra: {job_logging: {handlers: {x: {(): os.system}}}}", "hydra.job_logging: a config from elsewhere"),
        ("hydra: {job: {env_set: {LD_PRELOAD: ./evil.so}}}", "hydra.job: a config from elsewhere"),
        ("allowed_targets: [os]", "comes with trust in os of its own"),
        ("notes: ${oc.env:AWS_SECRET_ACCESS_KEY}", "notes: reads AWS_SECRET_ACCESS_KEY from the environment"),
        ("notes: 'hello ${oc.env:WANDB_API_KEY,none}'", "notes: reads WANDB_API_KEY"),
        ("logger: {tags: ['${oc.env:HF_TOKEN}']}", "logger.tags[0]: reads HF_TOKEN"),
        ("scheduler: {_target_: a.b, x: [{y: '${oc.env:DB_PASSWORD,1}'}]}", "scheduler.x[0].y: reads DB_PASSWORD"),
        ("cache_dir: HF_TOKEN\nnotes: 'x ${oc.env:${cache_dir}}'", "notes: holds what HF_TOKEN is in the environment"),
        ("cache_dir: oc\nnotes: ${${cache_dir}.env:HF_TOKEN}", "notes: holds what HF_TOKEN is in the environment"),
        ("notes: ${oc.env :HF_TOKEN}", "notes: holds what HF_TOKEN is in the environment"),
    ],
)
def test_a_foreign_config_file_is_refused_before_hydra_acts_on_it(
    addition: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_0123456789")
    register_schema()
    (tmp_path / "config.yaml").write_text(HOSTILE + addition + "\n")
    with pytest.raises(ConfigError) as refused:
        checked_arguments(CONF, ["--config-path", str(tmp_path), "--config-name", "config"])
    assert message in str(refused.value)
    assert "hf_0123456789" not in str(refused.value)
