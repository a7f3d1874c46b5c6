"""One tiny run that all tests of serving share, and a way to make run folders without training."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image
from typer.testing import CliRunner, Result

from raylight.cli import app
from raylight.config.schema import ModelConfig, RunConfig
from raylight.data.index import Index
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from tests.forked import last_line


def draw(folder: Path, label: str, count: int, seed: int, suffix: str = ".png") -> list[Path]:
    """Noise, brighter in the left half for ``left``; differing in size, hard enough that some are mistaken."""
    rng = np.random.default_rng([seed, len(label)])
    (folder / label).mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        height, width = rng.integers(40, 70, 2)
        pixels = rng.normal(128, 50, (height, width, 3))
        half = pixels[:, : width // 2] if label.casefold() == "left" else pixels[:, width // 2 :]
        half += rng.normal(25, 20)
        paths.append(folder / label / f"{seed}-{number}{suffix}")
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(paths[-1])
    return paths


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the run was trained on: two classes of 40, and a broken file."""
    folder = tmp_path_factory.mktemp("images")
    draw(folder, "left", 20, 1)
    draw(folder, "left", 20, 2, ".jpg")
    draw(folder, "right", 20, 1)
    draw(folder, "right", 20, 2, ".jpg")
    (folder / "right" / "broken.jpg").write_bytes(b"\xff\xd8 not really")
    return folder


@pytest.fixture(scope="session")
def run(images: Path, train: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run."""
    done = train(
        "data=folder",
        f"data.root={images}",
        "data.val_fraction=0.2",
        "data.test_fraction=0.3",
        "model=cnn2",
        "model.image_size=32",
        "trainer.max_epochs=2",
        "trainer.threads=1",
        "trainer.batch_size=8",
        "decode=threads",
        "logger=none",
        "report.enabled=false",
        "report.plots=false",
        cwd=tmp_path_factory.mktemp("work"),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    folder = last_line(done)
    return folder if folder.is_absolute() else Path(done.args[0], folder)


@pytest.fixture
def copied_run(run: Path, tmp_path: Path) -> Path:
    """The run's folder to be tampered with."""
    return Path(shutil.copytree(run, tmp_path / "copied-run"))


def move_images(run: Path, root: Path) -> None:
    """Make a run believe that its images were in another folder."""
    replace(Index.read(run / "index.parquet"), root=root).write(run / "index.parquet")


@pytest.fixture
def raylight() -> Callable[..., Result]:
    """Run a ``raylight`` command in this process."""

    def command(*arguments: str | Path) -> Result:
        return CliRunner().invoke(app, [os.fspath(argument) for argument in arguments], catch_exceptions=False)

    return command


@pytest.fixture
def untrained(tmp_path: Path) -> Callable[..., Path]:
    """Make the folder of a finished run whose network has random weights."""

    def make(class_names: tuple[str, ...], temperature: float = 1.0, **model: Any) -> Path:
        config = RunConfig(model=ModelConfig(channels=[4, 8], dense=[8], image_size=24, **model))
        folder = tmp_path / f"untrained-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        OmegaConf.save(OmegaConf.structured(config), folder / "config.yaml", resolve=True)
        (folder / "status.json").write_text(json.dumps({"state": "finished", "host": "elsewhere", "reason": None}))
        facts = {
            **Preprocessing.from_config(config.model).to_dict(),
            "class_names": class_names,
            "positive_class": class_names[-1],
            "head": config.model.head,
            "temperature": temperature,
            "threshold": 0.5 if len(class_names) == 2 else None,
        }
        (folder / "preprocessing.json").write_text(json.dumps(facts))
        from safetensors.torch import save_file

        with torch.random.fork_rng():
            torch.manual_seed(1)
            save_file(build_network(config.model, len(class_names)).state_dict(), folder / "model.safetensors")
        return folder

    return make
