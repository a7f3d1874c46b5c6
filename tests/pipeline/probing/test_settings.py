"""Each network's config is what ``train.py`` makes of the same settings."""

from pathlib import Path

import pytest

from raylight.errors import ConfigError
from raylight.pipeline.probing.networks import Candidate
from raylight.pipeline.probing.settings import as_settings, probe_configs, value_of, without


def test_a_folder_is_the_datas_root(tmp_path: Path) -> None:
    (tmp_path / "my photos").mkdir()
    assert as_settings([str(tmp_path), "seed=2"]) == [f"data.root={tmp_path}", "seed=2"]
    assert as_settings([f"{tmp_path}/my photos"]) == [f"data.root='{tmp_path}/my photos'"]
    with pytest.raises(ConfigError, match="nothing: there is no such folder"):
        as_settings(["nothing"])


def test_the_last_value_counts() -> None:
    typed = ["models=a", "+seed=1", "models='b,c'"]
    assert (value_of(typed, "models"), value_of(typed, "seed"), value_of(typed, "model")) == ("b,c", "1", None)
    assert without(typed, "models") == ["+seed=1"]


def test_each_network_is_shown_what_its_weights_want(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    several = [
        Candidate("resnet18", "torchvision", None),
        Candidate("swin_t", "torchvision", None),
        Candidate("resnet10t.c3_in1k", "timm", None),
    ]
    configs = probe_configs([f"data.root={tmp_path}"], several)
    assert [config.model.name for config in configs] == [one.name for one in several]
    assert [config.model.family for config in configs] == ["torchvision", "torchvision", "timm"]
    assert [config.model.resize_size for config in configs] == [256, 232, 201]
    assert [config.model.dropout for config in configs] == [
        0.0,
        0.2,
        0.0,
    ]  # as model=resnet18, model=torchvision have it
    assert {config.finetune.name for config in configs} == {"probe"}
    assert {config.data.root for config in configs} == {str(tmp_path)}
    (typed,) = probe_configs([f"data.root={tmp_path}", "model.image_size=64", "trainer.batch_size=8"], several[1:2])
    assert (typed.model.image_size, typed.trainer.batch_size) == (64, 8)
