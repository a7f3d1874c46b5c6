"""A run that was given relative paths is resumed and repeated from another folder, with the same numbers."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from raylight.config.quoting import quoted
from raylight.config.schema import ModelConfig
from raylight.models.build import build_network
from tests.forked import ROOT, last_line, run_forked
from tests.trained_run import draw


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A folder with images whose name looks like an interpolation, a table beside them, and weights."""
    start = tmp_path / "start"
    rows = ["path,label,split"]
    for label in ("left", "right"):
        for place, path in enumerate(draw(start / "photos ${b}", label, 12, 1)):
            split = ("train", "train", "val", "test")[place % 4]
            rows.append(f"{label}/{path.name},{label},{split}")
    (start / "photos ${b}" / "labels.csv").write_text("\n".join(rows))
    model = ModelConfig(**OmegaConf.load(ROOT / "conf" / "model" / "cnn2.yaml"))
    model.image_size = 32
    torch.manual_seed(3)
    torch.save(build_network(model, 2).network.state_dict(), start / "weights.pt")
    return start


def test_relative_paths_are_those_of_where_the_run_began(
    start: Path, train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    first = train(
        "data=folder",
        f"data.root={quoted('photos ${b}')}",
        "data.csv=labels.csv",
        "model.weights=weights.pt",
        "model.image_size=32",
        "cache_dir=cache",
        "trainer.max_epochs=1",
        "trainer.threads=1",
        "trainer.batch_size=4",
        "decode=threads",
        "logger=none",
        "report.enabled=false",
        "report.plots=false",
        "hydra.job.chdir=true",
        cwd=start,
    )
    assert first.returncode == 0, first.stdout + first.stderr
    run = start / last_line(first)
    assert not (run / "cache").exists()
    predictions = (run / "predictions.csv").read_bytes()

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    repeated = train("--config-path", str(run), "--config-name", "config", cwd=elsewhere)
    assert repeated.returncode == 0, repeated.stdout + repeated.stderr
    assert ((elsewhere / last_line(repeated)) / "predictions.csv").read_bytes() == predictions
    assert [path.name for path in elsewhere.iterdir()] == ["outputs"]

    # Stopped after its last epoch: the checkpoint holds all that the weights gave.
    (start / "weights.pt").unlink()
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "state": "interrupted"}))
    (run / "predictions.csv").unlink()
    resumed = run_forked(
        Path(sys.executable).with_name("raylight"), ["resume", str(run)], elsewhere, os.environ, timeout=100
    )
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert (run / "predictions.csv").read_bytes() == predictions
    assert OmegaConf.load(run / "config.yaml").model.weights == str(start / "weights.pt")


def test_a_sweep_goes_on_where_it_was_started(
    start: Path, train: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    short = (
        "model.image_size=32",
        "trainer=debug",
        "trainer.threads=1",
        "trainer.batch_size=4",
        "decode=threads",
        "logger=none",
    )
    short = (*short, "logger=none", "report.enabled=false", "report.plots=false")
    done = train("-m", "data=folder", f"data.root={quoted('photos ${b}')}", "seed=1", *short, cwd=start)
    assert done.returncode == 0, done.stdout + done.stderr
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    resumed = train(f"resume={start / last_line(done)}", cwd=elsewhere)
    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    assert "has finished before" in resumed.stdout
