"""What is said where no images are."""

from pathlib import Path

import pytest

from raylight.config.schema import DataConfig
from raylight.data.sources.source import find_images
from raylight.errors import DataError
from tests.data.sources.files import error, option, touch


def test_missing_root_says_how_to_get_place_and_check_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError) as caught:
        find_images(option("xray"), tmp_path)
    message = str(caught.value)
    assert f"No images for data=xray: the folder {tmp_path}/datasets/xray doesn't exist." in message
    assert "datasets/xray/\n  ├── train/" in message
    assert "│   ├── NORMAL/" in message
    assert "Get them from https://www.kaggle.com/datasets/khoongweihao/" in message
    assert "data.download=true" in message
    assert f"python train.py data=xray data.root={tmp_path}/datasets/xray trainer=debug" in message


def test_what_was_found_instead_is_said(tmp_path: Path) -> None:
    assert "is empty" in error(tmp_path)
    touch(tmp_path, "only/1.jpg", "only/2.jpg", "notes.txt")
    message = error(tmp_path)
    assert "only/, notes.txt (2 .jpg, 1 .txt in all)" in message
    assert "images of one class only, 'only'" in message
    assert "looked for split_folders, class_folders, flat" in message


def test_packed_files_are_told_from_a_folder_without_images(tmp_path: Path) -> None:
    touch(tmp_path, "data/train-00000-of-00001.parquet", "data/notes.txt")
    assert "Files named *.parquet are read with data=parquet." in error(tmp_path)
    touch(tmp_path, "data/0.tar")
    assert "read with data=parquet. Files named *.tar are read with data=tar." in error(tmp_path)
    with pytest.raises(DataError, match=f"\n  {tmp_path.name}/\n  ├── train/"):
        find_images(DataConfig(root=f"file://{tmp_path}"), tmp_path)
