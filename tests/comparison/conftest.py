"""Two runs that every test of a comparison may take."""

from pathlib import Path

import pytest

from tests.comparison.jobs import job
from tests.comparison.run_folders import run_folder


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs on the same pictures, the second of which knows them by other names in another place."""
    one = run_folder(tmp_path / "one", tmp_path / "here", {0, 1}, overrides=("model.name=small",))
    other = run_folder(
        tmp_path / "other", tmp_path / "there", {1, *range(2, 10)}, prefix="copy_", overrides=("model.name=tiny",)
    )
    return one, other


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """Two models at three seeds each; the second one's last seed failed."""
    folder = tmp_path / "a-sweep"
    for number, (model, seed, accuracy) in enumerate(
        [("cnn2", 1, 0.9), ("cnn2", 2, 0.92), ("cnn2", 3, 0.88), ("cnn5", 1, 0.8), ("cnn5", 2, 0.8), ("cnn5", 3, None)]
    ):
        reason = None if accuracy else "2 problems in the configuration:\n  - <b>a|b</b>: too small\n  - c: too large"
        job(folder, number, f"model={model}", f"seed={seed}", "data.limit=60", accuracy=accuracy, reason=reason)
    return folder
