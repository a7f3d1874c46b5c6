"""Raylight called from Python gives what the commands give, raises what they say, and is silent."""

import ast
import json
import logging
import os
import random
import re
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import raylight
from raylight.auditing.commands import settings
from tests.trained_run import draw

SMALL = (
    "model=cnn2",
    "model.image_size=16",
    "model.channels=[4]",
    "model.dense=[4]",
    "trainer.max_epochs=2",
    "trainer.batch_size=8",
    "trainer.threads=1",
    "trainer.precision=32",
    "augment=none",
    "logger=csv",
    "report.gradcam=false",
)


@pytest.fixture(autouse=True)
def no_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without those that commands in other tests have left, on streams that are closed by now."""
    monkeypatch.setattr(logging.getLogger("raylight"), "handlers", [])


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("called") / "photos"
    for label in ("left", "right"):
        draw(root, label, 20, 1)
    return root


@pytest.fixture(scope="module")
def called(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> raylight.Run:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("work"))
        return raylight.train(f"data.root={photos}", *SMALL)


def random_state() -> tuple[object, ...]:
    """Of the global generators that a caller may draw from."""
    return random.getstate(), repr(np.random.get_state()), torch.get_rng_state().tolist()


def test_a_call_trains_as_the_command_does_and_says_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                            capfd: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    level, handlers = logging.getLogger("raylight").level, list(logging.getLogger("raylight").handlers)
    drawing, seeds = random_state(), {name: os.environ.get(name) for name in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    run = raylight.train(f"data.root={photos}", *SMALL)
    assert capfd.readouterr() == ("", "")
    assert (logging.getLogger("raylight").level, logging.getLogger("raylight").handlers) == (level, handlers)
    assert (random_state(), {name: os.environ.get(name) for name in seeds}) == (drawing, seeds)
    assert run.path.is_relative_to(tmp_path / "outputs")
    assert run.config.data.root == str(photos)
    assert run.config.trainer.max_epochs == len(run.history) == 2
    written = json.loads((run.path / "metrics.json").read_text())
    assert run.metrics["test/accuracy"].value == written["test/accuracy"]["value"]
    assert run.metrics["val/brier"].high == written["val/brier"]["high"]
    assert "val/loss: " not in (run.path / "train.log").read_text()
    assert "Recipe recommended_scratch: random weights, 32 training images" in (run.path / "train.log").read_text()
    assert json.loads((run.path / "overrides.json").read_text())[0] == f"data.root={photos}"
    assert json.loads((run.path / "status.json").read_text())["state"] == "finished"


def test_two_calls_of_one_process_give_one_result_and_the_commands(called: raylight.Run, photos: Path, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    runs: list[raylight.Run] = []
    thread = threading.Thread(target=lambda: runs.append(raylight.train(f"data.root={photos}", *SMALL)))
    thread.start()
    thread.join()
    pd.testing.assert_frame_equal(runs[0].predictions, called.predictions)
    losses = ["train/loss", "val/loss"]
    pd.testing.assert_frame_equal(runs[0].history[losses], called.history[losses])


def test_a_run_predicts_and_is_measured_again_from_its_folder(
    called: raylight.Run, photos: Path, tmp_path: Path
) -> None:
    run = raylight.load(str(called.path))
    again = run.evaluate()
    assert again["accuracy"].value == pytest.approx(run.metrics["test/accuracy"].value, abs=1e-6)
    assert again["brier"].low == pytest.approx(run.metrics["test/brier"].low, abs=1e-3)
    test = run.predictions[run.predictions["split"] == "test"]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    found = run.predict([*(photos / path for path in test["path"]), broken])
    assert found["predicted"][:-1].tolist() == test["predicted"].tolist()
    assert found["p_right"][:-1].to_numpy() == pytest.approx(test["p_right"].to_numpy(), abs=1e-5)
    assert found["reason"].notna().tolist() == [False] * len(test) + [True]
    assert len(run.predict(photos)) == 40
    assert run.report.is_file()
    assert f"<td>{run.metrics['test/accuracy'].value:.3f}</td>" in run._repr_html_()


def test_runs_are_compared(called: raylight.Run, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    other = raylight.train(f"data.root={photos}", *SMALL, "optimizer.lr=0.1", "seed=2")
    found = raylight.compare([called, other.path])
    accuracy = found.table.set_index("metric").loc["accuracy"]
    values = [run.metrics["test/accuracy"].value for run in (called, other)]
    assert sorted((accuracy["first_value"], accuracy["second_value"])) == pytest.approx(sorted(values))
    assert accuracy["low"] <= accuracy["difference"] <= accuracy["high"]
    assert found.write(tmp_path / "page")["comparison.html"].is_file()
    assert "accuracy" in str(found)
    assert "<table" in found._repr_html_()
    with pytest.raises(raylight.RaylightError, match="A comparison needs two runs"):
        raylight.compare([called])


def test_images_are_audited(photos: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (photos.parent / "copy").mkdir()
    for file in photos.rglob("*.png"):
        target = photos.parent / "copy" / file.relative_to(photos)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    twin = next((photos.parent / "copy" / "left").iterdir())
    (twin.parent / "twin.png").write_bytes(twin.read_bytes())
    found = raylight.audit(photos.parent / "copy", "data.split_seed=2")
    assert not found.clean
    assert found.files == 41
    assert any(finding.kind.startswith("duplicates") for finding in found.findings)
    assert capfd.readouterr() == ("", "")


def test_the_documented_setting_of_an_audit_is_accepted(tmp_path: Path) -> None:
    (example,) = re.findall(r'``(r"data\.group_pattern=.*?")``', raylight.audit.__doc__ or "")
    assert settings(str(tmp_path), [ast.literal_eval(example)]).data.group_pattern == r"^(p\d+)_"


def test_importing_imports_nothing_heavy() -> None:
    code = (
        "import raylight, raylight.comparison, raylight.auditing, sys\n"
        "assert callable(raylight.compare) and callable(raylight.audit)\n"
        "print(sorted({'torch', 'hydra', 'pandas', 'ray', 'numpy', 'wandb'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
