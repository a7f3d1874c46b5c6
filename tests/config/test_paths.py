"""Paths in a config mean the same files from wherever a run is started, resumed or repeated."""

from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf

from raylight.config.launch import register_schema
from raylight.config.paths import with_absolute_paths
from raylight.config.quoting import as_yaml
from raylight.config.schema import RunConfig
from tests.config.test_check import problems


def composed(**settings: object) -> DictConfig:
    config = OmegaConf.structured(RunConfig)
    for key, value in settings.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    assert isinstance(config, DictConfig)
    return config


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"data__root": "photos"}, {"data.root": "/start/photos"}),
        ({"data__root": "../photos"}, {"data.root": "/photos"}),
        ({"data__root": "~/photos"}, {"data.root": "/home/me/photos"}),
        ({"data__root": "s3://bucket/photos"}, {"data.root": "s3://bucket/photos"}),
        ({"data__name": "mine"}, {"data.root": "/start/datasets/mine"}),
        ({"data__kind": "demo"}, {"data.root": None}),
        ({"data__root": "a", "data__csv": "https://host/t.csv"}, {"data.csv": "https://host/t.csv"}),
        ({"data__root": "s3://bucket/photos", "data__csv": "beside.csv"}, {"data.csv": "beside.csv"}),
        ({"model__weights": "w.pt"}, {"model.weights": "/start/w.pt"}),
        ({"model__weights": "DEFAULT"}, {"model.weights": "DEFAULT"}),
        ({}, {"model.weights": None, "data.csv": None, "finetune.cache_dir": None}),
        ({"cache_dir": "c", "finetune__cache_dir": "f"}, {"cache_dir": "/start/c", "finetune.cache_dir": "/start/f"}),
        ({"notes": "a", "data__root": "${notes}/b"}, {"data.root": "/start/a/b"}),
    ],
)
def test_paths_are_written_in_full(
    given: dict[str, object], expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    changed = with_absolute_paths(composed(**given), Path("/start"))
    assert {key: OmegaConf.select(changed, key) for key in expected} == expected


def test_a_table_may_lie_here_or_beside_the_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    given = composed(data__root="photos", data__csv="labels.csv")
    command = ("data=folder", "data.root=photos", "data.csv=labels.csv")
    (problem,) = problems(*command)
    assert problem == "data.csv: there is no file 'labels.csv', neither here nor in data.root=photos"
    (tmp_path / "photos" / "labels.csv").touch()
    assert problems(*command) == []
    assert problems("data=folder", "data.root=photos", "data.csv=s3://bucket/labels.csv") == []
    assert with_absolute_paths(given, tmp_path).data.csv == str(tmp_path / "photos" / "labels.csv")
    (tmp_path / "labels.csv").touch()
    assert with_absolute_paths(given, tmp_path).data.csv == str(tmp_path / "labels.csv")


@pytest.mark.parametrize("folder", ["${b}", "a\\b", "a\\${b}", "it's, {odd: #1", "2024", "c:\\", "- x"])
def test_a_folder_of_any_name_is_read_back_from_a_runs_config(folder: str, tmp_path: Path) -> None:
    register_schema()
    config = composed(data__root="placeholder")
    config.data.root = folder.replace("\\${", "\\\\\\${") if "\\${" in folder else folder.replace("${", "\\${")
    full = with_absolute_paths(config, tmp_path)
    assert full.data.root == f"{tmp_path}/{folder}"
    written = as_yaml(OmegaConf.to_container(full, resolve=True))  # type: ignore[arg-type]
    assert OmegaConf.create(written).data.root == f"{tmp_path}/{folder}"
