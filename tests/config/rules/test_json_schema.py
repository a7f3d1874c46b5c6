"""The JSON Schema against the option files, and against the check that a run's settings go through."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator
from omegaconf import OmegaConf

from raylight.config.rules.json_schema import json_schema
from raylight.config.schema import RunConfig
from tests.composed import config_problems

CONF = Path(__file__).resolve().parents[3] / "conf"
FILES = sorted(path.relative_to(CONF).as_posix() for path in CONF.rglob("*.yaml"))
WHOLE = json.loads((CONF / "schema.json").read_text())


def mistakes(config: Any, fragment: str = "") -> list[str]:
    """What an editor would mark, by the part of the schema that a file names behind ``#``."""
    part = {**WHOLE, **({"$ref": f"#{fragment}"} if fragment else {})}
    return [f"{error.json_path} {error.message}" for error in Draft7Validator(part).iter_errors(config)]


def test_the_shipped_file_is_what_the_settings_say() -> None:
    """raylight schema --out conf/schema.json"""
    Draft7Validator.check_schema(WHOLE)
    assert json_schema() == WHOLE


@pytest.mark.parametrize("name", FILES)
def test_each_option_file_names_the_schema_of_its_node_and_fits_it(name: str) -> None:
    file = CONF / name
    text = file.read_text()
    (place, fragment) = re.findall(r"^# yaml-language-server: \$schema=([^#\s]+)#?(\S*)$", text, re.MULTILINE)[0]
    assert (file.parent / place).resolve() == CONF / "schema.json"
    group = name.rpartition("/")[0]
    whole = not group or text.startswith("# @package _global_\n")
    assert fragment == ("" if whole else f"/properties/{group}")
    assert mistakes(OmegaConf.to_container(OmegaConf.load(file)), fragment) == []
    free = group in ("optimizer", "scheduler")  # what these classes take is their own
    assert bool(mistakes({"no_such_setting": 1}, fragment)) != free


def test_a_run_with_all_its_settings_fits() -> None:
    assert mistakes(OmegaConf.to_container(OmegaConf.structured(RunConfig))) == []


@pytest.mark.parametrize(
    ("setting", "right", "wrong"),
    [
        (
            "model.image_size",
            [16, 4096, None, [16, 40], "${model.resize_size}"],
            [0, 4097, "big", 1.5, [16, 0], [16], [16, 1, 1]],
        ),
        ("data.val_fraction", [0, 0.5], [-0.1, 1, None]),
        ("trainer.max_epochs", [1], [0, "ten"]),
        ("model.resize", ["crop", None], ["croped", 1]),
        ("trainer.precision", ["32", 32, "bf16"], ["fp32", None]),
        ("trainer.channels_last", [True, "auto"], ["yes"]),
        ("model.batch_norm", [True], ["perhaps"]),
        ("model.dense", [[], [128]], [128, ["wide"]]),
        ("decision.threshold", ["youden", 0.4], [[0.5]]),
        ("model.arguments", [{}, {"width": 8}], ["width"]),
        ("model.no_such", [], [1]),
    ],
)
def test_it_takes_and_refuses_what_the_check_does(setting: str, right: list[Any], wrong: list[Any]) -> None:
    section, _, name = setting.partition(".")
    extra: dict[str, Any] = {"family": "own", "_target_": "torch.nn.Module"} if name == "arguments" else {}

    def problems(value: Any) -> list[str]:
        config = OmegaConf.create({"data": {"kind": "demo"}, section: {"kind": "demo"} if section == "data" else {}})
        return config_problems(OmegaConf.merge(config, {section: {**extra, name: value}}))

    for value in right:
        assert mistakes({section: {name: value}}) == []
        assert not [one for one in problems(value) if one.startswith(f"{setting}:") and "${" not in str(value)]
    for value in wrong:
        assert mistakes({section: {name: value}})
        assert [one for one in problems(value) if one.startswith(setting)], value


def test_each_setting_is_explained() -> None:
    size = WHOLE["definitions"]["ModelConfig"]["properties"]["image_size"]
    assert (
        size["description"]
        == "Height and width of the input, in pixels: one number for both, or `[HEIGHT, WIDTH]`. `null`: that of the weights."
    )
    unexplained = [
        f"{name}.{key}"
        for name, section in WHOLE["definitions"].items()
        for key, setting in section["properties"].items()
        if "description" not in setting
    ]
    assert unexplained == []
