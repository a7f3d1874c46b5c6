"""A finished run folder without the hours: real images, index, network and results; only training is left out."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from raylight.config.schema import DataConfig, ModelConfig, ReportConfig, RunConfig
from raylight.data.index import build_index
from raylight.data.sources.source import find_images
from raylight.evaluation.predictions import Predictions
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.report.results import Circumstances, Selection, write_results
from raylight.runs.run_dir import RunDir, recorded
from raylight.storage.atomic import write_atomically

NASTY_NAME = '"><img src=x onerror=alert(1)><b>'
"""A file name that a careless page would run."""

NASTY_NOTE = '</style></pre><script>document.title = "owned"</script> & <b>bold</b>'


def images(folder: Path, classes: tuple[str, ...], each: int) -> None:
    """Noise pictures of several sizes and kinds, one broken file, one file with a nasty name."""
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for k, name in enumerate(classes):
            (folder / split / name).mkdir(parents=True)
            for i in range(each):
                pixels = rng.integers(0, 120, (30 + 7 * i, 40 + 5 * k, 3), np.uint8)
                pixels[5:20, 10 : 20 + k] += np.uint8(30 + 100 * k // len(classes))
                stem = NASTY_NAME if (split, k, i) == ("test", 0, 0) else f"{name}_{i}"
                Image.fromarray(pixels).save(folder / split / name / f"{stem}.{'png' if i % 2 else 'jpg'}")
    (folder / "train" / classes[0] / "broken.jpg").write_bytes(b"no picture")


def make_run(folder: Path, classes: tuple[str, ...] = ("cat", "dog"), each: int = 8) -> tuple[RunDir, StagedNetwork]:
    """A run of a network with random weights, whose folder holds all that ``train.py`` leaves."""
    import torch
    from safetensors.torch import save

    from raylight.runs.environment import environment

    images(folder / "pictures", classes, each)
    data = DataConfig(name="animals", root=str(folder / "pictures"), max_bad_fraction=0.5)
    model = ModelConfig(image_size=32, channels=[8, 8], dense=[16])
    adam = {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 0.001}
    constant = {"_target_": "torch.optim.lr_scheduler.ConstantLR", "_partial_": True, "factor": 1.0}
    report = ReportConfig(plots=len(classes) == 2)
    config = RunConfig(data=data, model=model, report=report, notes=NASTY_NOTE, optimizer=adam, scheduler=constant)
    index = build_index(find_images(data, folder), folder, 2)
    run = RunDir.claim(folder / "run")
    torch.manual_seed(0)
    network = build_network(model, len(classes))
    with recorded(run) as status:
        run.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(config), resolve=True))
        run.write_json("overrides.json", ["model=cnn2", "model.image_size=32", f"notes={NASTY_NOTE!r}"])
        run.write_json("environment.json", environment())
        index.write(run / "index.parquet")
        run.write_text("rejected.csv", "path,reason\n")
        write_atomically(run / "model.safetensors", save(network.state_dict()))
        header = "epoch,phase,seconds,learning_rate,train/loss,val/loss,train/accuracy,val/accuracy\n"
        rows = [f"{i},0,0.5,0.001,{0.7 - 0.1 * i},{0.72 - 0.1 * i},{0.8 + 0.05 * i},0.75\n" for i in range(3)]
        run.write_text("history.csv", header + "".join(rows))
        write_results(
            config, run, predictions(index, classes), Preprocessing.from_config(model).to_dict(),
            Selection("val/loss", 0.52, 2, 3),
            Circumstances({"seconds": {"index": 0.2, "training": 75.0}, "waiting_share": 0.01, "peak_memory_gb": 1.25}),
        )  # fmt: skip
        assert status.exit_code == 0
    return run, network


def predictions(index, classes: tuple[str, ...]) -> Predictions:
    rng = np.random.default_rng(1)
    parts = [index.in_split(split) for split in ("val", "test")]
    labels = np.concatenate([part.targets() for part in parts])
    logits = rng.normal(size=(len(labels), len(classes))) + 1.5 * np.eye(len(classes))[labels]
    odds = np.exp(logits)
    return Predictions(
        paths=[path for part in parts for path in part.column("path")],
        splits=[split for part, split in zip(parts, ("val", "test"), strict=True) for _ in range(len(part))],
        labels=labels,
        probabilities=odds / odds.sum(axis=1, keepdims=True),
        class_names=classes,
        positive_class=classes[-1],
    )


@dataclasses.dataclass(frozen=True)
class FinishedRun:
    """A run to spoil: a copy of its folder; the original images are where they were."""

    run: RunDir
    network: StagedNetwork


@pytest.fixture(scope="session")
def finished_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDir, StagedNetwork]:
    return make_run(tmp_path_factory.mktemp("finished"))


@pytest.fixture
def finished(finished_template: tuple[RunDir, StagedNetwork], tmp_path: Path) -> FinishedRun:
    """A copy of a finished run of two classes."""
    run, network = finished_template
    return FinishedRun(RunDir(Path(shutil.copytree(run.path, tmp_path / "run"))), network)


@pytest.fixture
def run_of(tmp_path: Path) -> Callable[..., tuple[RunDir, StagedNetwork]]:
    """Makes a run of other classes."""
    return lambda classes, each=2: make_run(tmp_path, classes, each)
