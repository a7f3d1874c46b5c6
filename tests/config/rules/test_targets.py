"""Somebody else's config: nothing in it runs code, reads secrets, or widens its own rights."""

import os
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from raylight.config.check import load_config
from raylight.config.launch import checked_arguments, register_schema
from raylight.config.rules.targets import ALLOWING, allow, is_trusted, secret_problem, target_problems
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
    # torch.utils.cpp_extension can't be imported where something else has imported Python's own distutils before.
    reasons = (
        "not from a trusted package",
        "nothing else may be called",
        "no module",
        "importing 'torch.utils.cpp_ext",
    )
    assert any(reason in found for reason in reasons)


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
    assert "this config itself allows builtins" in problems(**foreign)
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


def test_what_the_command_line_gives_hydra_is_taken_beside_a_foreign_config(tmp_path: Path) -> None:
    register_schema()
    (tmp_path / "config.yaml").write_text(HOSTILE)
    given = ["--config-path", str(tmp_path), "--config-name", "config", "hydra.job.chdir=true", "hydra.run.dir=here"]
    assert checked_arguments(CONF, given) == given


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        (
            "hydra: {callbacks: {mine: {_target_: os.system, command: id}}}",
            "hydra.callbacks: can't be set by a config from elsewhere",
        ),
        ("hydra: {launcher: {_target_: subprocess.Popen}}", "hydra.launcher: can't be set by a config from elsewhere"),
        (
            "hydra: {job_logging: {handlers: {x: {(): os.system}}}}",
            "hydra.job_logging: can't be set by a config from elsewhere",
        ),
        ("hydra: {job: {env_set: {LD_PRELOAD: ./evil.so}}}", "hydra.job: can't be set by a config from elsewhere"),
        ("allowed_targets: [os]", "this config itself allows os"),
        ("notes: ${oc.env:AWS_SECRET_ACCESS_KEY}", "notes: reads AWS_SECRET_ACCESS_KEY from the environment"),
        ("notes: 'hello ${oc.env:WANDB_API_KEY,none}'", "notes: reads WANDB_API_KEY"),
        ("logger: {tags: ['${oc.env:HF_TOKEN}']}", "logger.tags[0]: reads HF_TOKEN"),
        ("scheduler: {_target_: a.b, x: [{y: '${oc.env:DB_PASSWORD,1}'}]}", "scheduler.x[0].y: reads DB_PASSWORD"),
        (
            "cache_dir: HF_TOKEN\nnotes: 'x ${oc.env:${cache_dir}}'",
            "notes: contains the value of HF_TOKEN in the environment",
        ),
        (
            "cache_dir: oc\nnotes: ${${cache_dir}.env:HF_TOKEN}",
            "notes: contains the value of HF_TOKEN in the environment",
        ),
        ("notes: ${oc.env :HF_TOKEN}", "notes: contains the value of HF_TOKEN in the environment"),
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


@pytest.mark.parametrize("word", ["KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL"])
def test_a_secret_is_known_by_its_name_and_its_content(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"My_{word.title()}s"
    for place in ("${oc.env:%s}", "a ${oc.env: %s ,none} b", "${oc.env:HOME} ${oc.env:%s}"):
        problem = secret_problem("notes", place % name)
        assert (
            problem
            == f"notes: reads {name} from the environment, and it would be written into the run folder, reports and W&B"
        )
    assert secret_problem("notes", "${oc.env:HOME}") is None
    for content, told in (("1234567", False), ("12345678", True)):  # seven characters may be there by chance
        monkeypatch.setenv(name, content)
        assert (secret_problem("notes", f"x{content}y") is not None) == told
    assert secret_problem("notes", f"{name} is not read here, only {{oc.env}}") is None
    monkeypatch.setenv("MY_HARMLESS", "some long text")
    assert secret_problem("notes", "some long text") is None
    assert secret_problem("notes", 12345678) is None
    assert secret_problem("notes", None) is None


def test_trust_is_remembered_for_this_process_and_its_children(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOWING)
    assert is_trusted("torch.optim.Adam")
    assert not is_trusted("mine.Net")
    assert not is_trusted("torchlike.optim.Adam")
    allow(["mine", "yours"])
    allow(["yours", "theirs"])
    assert is_trusted("mine.Net")
    assert os.environ[ALLOWING] == "mine,yours,theirs"


@pytest.mark.parametrize(
    ("node", "said"),
    [
        ({"_target_": "torch.optim.SGD", "lr": 0.1, "momentum": 0.9}, None),
        (
            {"_target_": "torch.optim.SGD", "lrr": 0.1},
            "optimizer.lrr: torch.optim.SGD takes no such argument; did you mean 'lr'?",
        ),
        ({"lr": 0.1}, "optimizer: needs a _target_, the dotted name of the class that builds it"),
        (None, "optimizer: needs a _target_"),
        ({"_target_": "torch.optim.NoSuch"}, "optimizer._target_: torch.optim has no 'NoSuch'"),
        ({"_target_": "mine.Sgd"}, "optimizer._target_: 'mine.Sgd' is not from a trusted package (raylight, torch, "),
        ({"_target_": "torch.nn.Linear"}, "optimizer._target_: 'torch.nn.Linear' isn't a class of the kind optimizer"),
        ({"_target_": "torch.optim.SGD", "_args_": [0.1, 0.9, 0, 0, False, 7]}, "optimizer: torch.optim.SGD: "),
    ],
)
def test_an_optimizers_node_is_bound_to_its_signature(node: Any, said: str | None) -> None:
    run = RunConfig(optimizer=node)
    found = list(target_problems(run))
    assert [problem[: len(said or "")] for problem in found] == ([said] if said else [])


def test_every_node_is_judged_where_it_stands() -> None:
    run = RunConfig(optimizer={"_target_": "torch.optim.SGD"})
    assert list(target_problems(run)) == []
    run.scheduler = {"_target_": "torch.optim.lr_scheduler.StepLR"}
    (problem,) = target_problems(run)
    assert problem.startswith("scheduler: torch.optim.lr_scheduler.StepLR: missing a required argument: 'step_size'")
    run.scheduler["step_size"] = 3
    flip = {"_target_": "torchvision.transforms.v2.RandomHorizontalFlip"}
    run.augment.transforms = [
        flip,
        flip | {"q": 0.5},
        {"_target_": "torchvision.transforms.v2.RandomApply", "transforms": [flip | {"x": 1}]},
    ]
    assert [problem.partition(":")[0] for problem in target_problems(run)] == [
        "augment.transforms[1].q",
        "augment.transforms[2].transforms[0].x",
    ]
    run.augment.transforms = []
    run.data.source = {"_target_": "torch.nn.Linear", "in_features": 1, "out_features": 1}
    (problem,) = target_problems(run)
    assert "isn't a class of the kind source (a class with entries() and read(key))" in problem
