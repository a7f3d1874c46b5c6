"""Folders of files, and what is found in them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from raylight.config.schema import DataConfig
from raylight.data.sources.source import Source, find_images
from raylight.errors import DataError

OPTIONS = Path(__file__).resolve().parents[3] / "conf" / "data"


def option(name: str, **changes: Any) -> DataConfig:
    settings = yaml.safe_load((OPTIONS / f"{name}.yaml").read_text(encoding="utf-8"))
    settings.pop("defaults", None)  # of other groups
    return DataConfig(**{**settings, **changes})


def touch(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")


def find(root: Path, **settings: Any) -> Source:
    return find_images(DataConfig(name="mine", root=str(root), **settings), root / "cache")


def rows(source: Source) -> list[tuple[str, str, str | None]]:
    return [(file.path, file.label, file.split) for file in source.files]


def paths_ignored(source: Source) -> list[str]:
    return [item.path for item in source.ignored]


def error(root: Path, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        find(root, **settings)
    return str(caught.value)
