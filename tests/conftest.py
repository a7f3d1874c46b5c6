"""What tests share: caches of their own, a run of train.py, real images where they are."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.finished_run import finished, finished_template, run_of
from tests.forked import ROOT, run_forked
from tests.trained_run import copied_run, images, raylight, run, untrained

__all__ = ["copied_run", "finished", "finished_template", "images", "raylight", "run", "run_of", "untrained"]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole session, so that the demo data is drawn and decoded once."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["RAYLIGHT_CACHE"] = str(folder)
    os.environ["WANDB_MODE"] = "offline"
    return folder


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real photos and films."""
    folder = os.environ.get("RAYLIGHT_REAL_DATA")
    if not folder:
        pytest.skip("set RAYLIGHT_REAL_DATA to a folder with dogs-vs-cats/ and xray_dataset_covid19/")
    return Path(folder)


@pytest.fixture(scope="session")
def train(own_cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run ``python train.py`` in a folder, in a process that needn't import the libraries again."""

    def run(*arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return run_forked(ROOT / "train.py", arguments, cwd, {**os.environ, **environment}, timeout=500)

    return run


@pytest.fixture(scope="session")
def python(own_cache: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a script of the project with a Python of its own, as a user does."""

    def run(script: str, *arguments: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / script), *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=500,
            check=False,
        )

    return run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Starts with the file that takes longest, so that no process is left with it alone at the end."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/training/distributed/test_launch.py"))
