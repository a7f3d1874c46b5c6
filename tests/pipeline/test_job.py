"""A job that was stopped and resumed ends like one that never stopped: before, at and after the switch of phases."""

import ast
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from omegaconf import OmegaConf

import raylight
import tests.forked  # noqa: F401 - the fork server shall have imported what all tests need
from raylight.config.check import load_config
from raylight.config.schema import ModelConfig, PhaseConfig, RunConfig
from raylight.data.index import Index
from raylight.errors import ConfigError, RunError
from raylight.pipeline.costs import Costs
from raylight.pipeline.job import resume_run
from raylight.pipeline.run import train
from raylight.runs.run_dir import RunDir, recorded, state_of


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, own_cache: Path) -> RunConfig:
    """Two phases of two epochs on a small MobileNetV2 with dropout and augmented views."""
    weights = tmp_path_factory.mktemp("weights") / "weights.pt"
    torch.manual_seed(0)
    torch.save(torchvision.models.mobilenet_v2().state_dict(), weights)
    config = OmegaConf.structured(RunConfig)
    changes = {
        "data.kind": "demo",
        "data.limit": 24,
        "decode.engine": "threads",
        "model": {
            "name": "mobilenet_v2",
            "family": "torchvision",
            "weights": str(weights),
            "image_size": 64,
            "normalize": "imagenet",
            "dropout": 0.3,
            "last_blocks_from": "features.17",
        },
        "finetune.phases": [
            {"train_from": "head", "epochs": 2},
            {"train_from": "last_blocks", "learning_rate": 1e-4},
        ],
        "finetune.views": 2,
        "augment.transforms": [{"_target_": "torchvision.transforms.v2.RandomHorizontalFlip"}],
        "optimizer": {"_target_": "torch.optim.Adam", "_partial_": True, "lr": 1e-3},
        "trainer.max_epochs": 4,
        "trainer.batch_size": 8,
        "trainer.progress": "off",
        "trainer.threads": 1,
        "logger.name": "none",
        "report.enabled": False,
        "report.plots": False,
    }
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    return load_config(config)


def run_until(settings: RunConfig, folder: Path, epochs: int | None) -> RunDir:
    """A run in this process; stopped by a real SIGTERM once so many epochs are in its history."""
    run = RunDir.claim(folder)
    run.write_text("config.yaml", OmegaConf.to_yaml(OmegaConf.structured(settings), resolve=True))
    done = threading.Event()

    def stop() -> None:
        history = folder / "history.csv"
        while not done.is_set():
            if (
                history.is_file()
                and len(history.read_text().splitlines()) > (epochs or 0)
                and (folder / "checkpoints" / "last.ckpt").is_file()
            ):
                os.kill(os.getpid(), signal.SIGTERM)
                return
            time.sleep(0.002)

    watcher = threading.Thread(target=stop)
    if epochs is not None:
        watcher.start()
    with recorded(run) as status:
        train(load_config(OmegaConf.load(run / "config.yaml")), run, status, Costs())  # type: ignore[arg-type]
    done.set()
    if epochs is not None:
        watcher.join()
    return run


@pytest.fixture(scope="module")
def undisturbed(settings: RunConfig, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """The run that never stopped."""
    return run_until(settings, tmp_path_factory.mktemp("undisturbed") / "run", None)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_a_stopped_and_resumed_run_equals_one_that_never_stopped(
    epochs: int, settings: RunConfig, undisturbed: RunDir, tmp_path: Path
) -> None:
    run = run_until(settings, tmp_path / "run", epochs)
    assert state_of(run) == "interrupted"
    before = run.read_json("status.json")["seconds"]
    assert resume_run(run.path) == 0
    assert state_of(run) == "finished"
    spent, whole = run.read_json("metrics.json")["cost"]["seconds"], run.read_json("status.json")["seconds"]
    trained = sum(float(line.split(",")[2]) for line in (run / "history.csv").read_text().splitlines()[1:])
    assert trained <= spent["training"] < whole
    assert before < sum(spent.values()) == pytest.approx(whole, abs=0.5)
    assert (run / "predictions.csv").read_bytes() == (undisturbed / "predictions.csv").read_bytes()
    learned = [
        [line.split(",")[:2] + line.split(",")[3:] for line in (folder / "history.csv").read_text().splitlines()]
        for folder in (run, undisturbed)
    ]
    assert learned[0] == learned[1]


def train_rising(folder: Path, config: str) -> None:
    """A whole run; in the tests, in a process that is killed."""
    run = RunDir.claim(folder)
    run.write_text("config.yaml", config)
    with recorded(run) as status:
        train(load_config(OmegaConf.create(config)), run, status, Costs())  # type: ignore[arg-type]


def test_a_run_killed_long_after_its_best_epoch_goes_on_at_the_next_one(settings: RunConfig, tmp_path: Path) -> None:
    """The loss rises, so that the first epoch stays the best."""
    config = OmegaConf.structured(settings)
    config.model = ModelConfig(name="cnn2", channels=[4], dense=[4], image_size=16)
    config.finetune.phases = [PhaseConfig(train_from="all")]
    config.optimizer = {"_target_": "torch.optim.SGD", "_partial_": True, "lr": 1e-2, "maximize": True}
    config.trainer.max_epochs = 9
    config.trainer.threads, config.trainer.precision = 1, "32"  # fastest at this size
    text = OmegaConf.to_yaml(config)
    train_rising(tmp_path / "whole", text)

    folder = tmp_path / "killed"
    process = multiprocessing.get_context("forkserver").Process(target=train_rising, args=(folder, text))
    process.start()
    history = folder / "history.csv"
    while process.is_alive() and not (history.is_file() and history.read_text().count("\n") > 5):
        time.sleep(0.002)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    checkpoints = folder / "checkpoints"
    done, best = (torch.load(checkpoints / name, weights_only=True)["epoch"] for name in ("last.ckpt", "best.ckpt"))
    assert best == 0
    assert 3 <= done < 8

    assert resume_run(folder) == 0
    rows = [
        [
            line.split(",")[:2] + line.split(",")[3:]
            for line in (tmp_path / name / "history.csv").read_text().splitlines()
        ]
        for name in ("killed", "whole")
    ]
    assert len(rows[0]) == 1 + 9
    assert rows[0] == rows[1]
    assert (folder / "predictions.csv").read_bytes() == (tmp_path / "whole" / "predictions.csv").read_bytes()


def test_a_run_finished_and_given_more_epochs_equals_one_that_had_them_from_the_start(
    settings: RunConfig, undisturbed: RunDir, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shorter = replace(settings, trainer=replace(settings.trainer, max_epochs=3))
    run = run_until(shorter, tmp_path / "run", None)
    assert (state_of(run), (run / "history.csv").read_text().count("\n")) == ("finished", 1 + 3)
    with pytest.raises(ConfigError, match=r"max_epochs: 2, but 3 epochs are done already"):
        resume_run(run.path, ["trainer.max_epochs=2"])
    assert resume_run(run.path, ["trainer.max_epochs=4"]) == 0
    assert (run / "config.yaml").read_bytes() == (undisturbed / "config.yaml").read_bytes()
    assert (run / "predictions.csv").read_bytes() == (undisturbed / "predictions.csv").read_bytes()
    done, whole = (folder.read_json("metrics.json") for folder in (run, undisturbed))
    assert done["provenance"] == whole["provenance"]
    assert [line.split(",")[1] for line in (run / "looks.csv").read_text().splitlines()] == [
        *("by", "train 3 epochs", "train 4 epochs")
    ]
    assert "Not the same" not in (run / "train.log").read_text()


def test_the_folder_of_a_sweep_is_told_how_it_goes_on(tmp_path: Path) -> None:
    (tmp_path / "multirun.yaml").touch()
    with pytest.raises(
        RunError, match=r"continues with: python train\.py resume=.*raylight resume .*/RUN trainer\.max_epochs=N"
    ):
        resume_run(tmp_path, ["trainer.max_epochs=9"])


def test_a_finished_run_is_left_alone(undisturbed: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    before = (undisturbed / "metrics.json").stat().st_mtime_ns
    assert resume_run(undisturbed.path) == 0
    assert resume_run(undisturbed.path, ["trainer.max_epochs=4"]) == 0
    assert (undisturbed / "metrics.json").stat().st_mtime_ns == before


class Evil:
    """Unpickling this writes a file."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, tuple[Path, str]]:
        return (Path.write_text, (self.proof, "executed"))


def test_a_moved_run_keeps_its_best_checkpoint_and_other_images_or_code_are_refused(
    settings: RunConfig, undisturbed: RunDir, tmp_path: Path
) -> None:
    """One stopped run, moved: what it is resumed with is refused until it is what it was."""
    run = run_until(settings, tmp_path / "run", 3)
    moved = RunDir(tmp_path / "another place")
    run.path.rename(moved.path)
    index, last = moved / "index.parquet", moved / "checkpoints" / "last.ckpt"
    whole, checkpoint = index.read_bytes(), last.read_bytes()

    table = Index.read(index)
    changed = ["0" * 64, *table.column("sha256")[1:]]
    table.with_column("sha256", changed).write(index)
    assert resume_run(moved.path) == 2
    assert "1 of the images in" in moved.read_json("status.json")["reason"]
    index.write_bytes(whole)

    torch.save({"epoch": Evil(tmp_path / "proof")}, last)
    assert resume_run(moved.path) == 1
    assert "could run code from it" in moved.read_json("status.json")["reason"]
    assert not (tmp_path / "proof").exists()
    last.write_bytes(checkpoint[: len(checkpoint) // 2])
    assert resume_run(moved.path) == 1
    assert "delete it to train from the beginning" in moved.read_json("status.json")["reason"]

    last.write_bytes(checkpoint)
    # What was best lies in the new place; the old one doesn't exist any more.
    assert resume_run(moved.path) == 0
    assert (moved / "predictions.csv").read_bytes() == (undisturbed / "predictions.csv").read_bytes()
    assert (moved / "history.csv").read_text().count("\n") == (undisturbed / "history.csv").read_text().count("\n")


def test_nothing_in_the_program_loads_pickles() -> None:
    root = Path(raylight.__file__).parent
    for file in root.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name, words = ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert name not in ("pickle.load", "pickle.loads", "joblib.load", "torch.hub.load"), file
                assert name != "torch.load" or words.get("weights_only") == "True", file
                assert words.get("allow_pickle", "False") == "False", file
                assert name not in ("yaml.load", "eval", "exec"), file
