"""What a command line may choose, and the jobs that a sweep makes of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser

from raylight.config.overrides import all_groups, compositions, override_problems, values_of

CONF = Path(__file__).resolve().parents[2] / "conf"


@pytest.fixture(scope="module")
def loader() -> Iterator[Any]:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        yield GlobalHydra.instance().config_loader()


def parsed(*texts: str) -> list[Any]:
    return OverridesParser.create().parse_overrides(list(texts))


def test_groups_are_the_folders_of_options(loader: Any) -> None:
    groups = set(all_groups(loader))
    assert {folder.name for folder in CONF.iterdir() if folder.is_dir()} - {"hydra"} <= groups
    assert "hydra" not in groups


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("model=cnn2", []),
        ("model=cnn2,cnn5", []),
        ("trainer.max_epochs=3", []),
        ("hydra.run.dir=x", []),
        ("~augment", []),
        ("model=cnn22", ["model: there is no option 'cnn22'; did you mean 'cnn2'?"]),
        ("model=cnn2,cnm5", ["model: there is no option 'cnm5'; did you mean 'cnn5'?"]),
        ("modle/x=cnn2", ["modle/x: there is no such group"]),
        ("trainer.max_epoch=3", ["trainer.max_epoch: there is no such setting; did you mean 'trainer.max_epochs'?"]),
        ("trainer.max_epoch=3,4", ["trainer.max_epoch: there is no such setting; did you mean 'trainer.max_epochs'?"]),
    ],
)
def test_what_is_wrong_is_named_with_the_nearest_name(loader: Any, text: str, said: list[str]) -> None:
    (override,) = parsed(text)
    found = list(override_problems(override, loader, set(all_groups(loader))))
    assert len(found) == len(said)
    assert all(one.startswith(start) for one, start in zip(found, said, strict=True))


def test_a_sweep_stands_for_its_values_and_an_interval_for_none() -> None:
    one, several, interval = parsed("seed=1", "seed=1,2", "loss.focal_gamma=interval(0,1)")
    assert [values_of(override) for override in (one, several, interval)] == [[1], [1, 2], []]


def test_each_further_value_of_a_sweep_is_composed_on_its_own() -> None:
    overrides = parsed("model=cnn2,cnn5", "seed=1,2,3", "notes=x")
    assert list(compositions(overrides, {"notes=x": "notes='y'"})) == [
        ["model=cnn2", "seed=1", "notes='y'"],
        ["model=cnn5", "seed=1", "notes='y'"],
        ["model=cnn2", "seed=2", "notes='y'"],
        ["model=cnn2", "seed=3", "notes='y'"],
    ]
