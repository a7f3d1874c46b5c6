"""Checkpoints are whole or not there, and are found wherever the folder lies."""

from pathlib import Path

import pytest
import torch

from raylight.errors import RunError
from raylight.runs.run_dir import RunDir
from raylight.training.callbacks.checkpoints import (
    AtomicCheckpointIO,
    MovableCheckpoint,
    last_checkpoint,
    network_state,
)


def state(step: int) -> dict[str, object]:
    return {
        "global_step": step,
        "state_dict": {"network.conv.weight": torch.full((2,), float(step)), "other": torch.ones(1)},
    }


def test_best_and_last_of_one_step_are_packed_once_and_hold_the_same(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path / "run")
    (run / "checkpoints").mkdir()
    files = AtomicCheckpointIO(run)
    files.save_checkpoint(state(7), "anywhere/best.ckpt")
    files.save_checkpoint(state(7), "anywhere/last.ckpt")
    files.save_checkpoint(state(8), "anywhere/last.ckpt")
    folder = run / "checkpoints"
    assert {path.name for path in folder.iterdir()} == {"best.ckpt", "last.ckpt"}
    steps = [torch.load(folder / name, weights_only=True)["global_step"] for name in ("best.ckpt", "last.ckpt")]
    assert steps == [7, 8]
    assert last_checkpoint(run) == folder / "last.ckpt"
    ((name, weight),) = network_state(folder / "last.ckpt").items()
    assert (name, weight.tolist()) == ("conv.weight", [8.0, 8.0])


def test_a_damaged_checkpoint_is_named_with_the_way_out(tmp_path: Path) -> None:
    run = RunDir.claim(tmp_path / "run")
    (run / "checkpoints").mkdir()
    assert last_checkpoint(run) is None
    AtomicCheckpointIO(run).save_checkpoint(state(1), "last.ckpt")
    path = run / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(RunError, match=r"last\.ckpt is damaged .*: delete it to train from the beginning"):
        last_checkpoint(run)


def test_what_was_best_is_looked_for_where_the_folder_lies_now(tmp_path: Path) -> None:
    before = MovableCheckpoint(dirpath=str(tmp_path / "old"), monitor="val/loss")
    before.best_model_path = str(tmp_path / "old" / "best.ckpt")
    before.best_k_models = {before.best_model_path: torch.tensor(0.3)}
    before.kth_best_model_path = before.best_model_path
    after = MovableCheckpoint(dirpath=str(tmp_path / "new"), monitor="val/loss")
    after.load_state_dict(before.state_dict())
    assert after.best_model_path == str(tmp_path / "new" / "best.ckpt")
    assert after.best_k_models == {str(tmp_path / "new" / "best.ckpt"): torch.tensor(0.3)}
