"""Checkpoints that are written atomically, and found again after the run folder has moved.

Leaves out when one is written and which one is best (Lightning's ``ModelCheckpoint``).
"""

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.plugins.io import TorchCheckpointIO
from torch import Tensor

from raylight.errors import RunError, first_line
from raylight.runs.run_dir import LAST_CHECKPOINT, RunDir

LAST = Path(LAST_CHECKPOINT).name


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint to a temporary file beside the target and renames it; Lightning uses the system's temporary folder.

    Where the best and the last checkpoint are of the same step, they are serialised and written once: that takes as long as
    several steps of a head.

    Args:
        run: whose ``checkpoints`` they are.
    """

    def __init__(self, run: RunDir) -> None:
        super().__init__()
        self.run = run
        self._written: tuple[int, str] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write a checkpoint that appears whole or not at all.

        Args:
            checkpoint: what Lightning saves.
            path: of the file; only its name counts.
            storage_options: unused.

        Raises:
            OSError: the disk is full or the folder can't be written; the previous checkpoint is still there.
        """
        step, name = int(checkpoint["global_step"]), f"checkpoints/{Path(path).name}"
        if self._written is not None and self._written[0] == step:
            self.run.write_link(self._written[1], name)
            return
        content = io.BytesIO()
        torch.save(checkpoint, content)
        self.run.write_bytes(name, content.getvalue())
        self._written = step, name


class MovableCheckpoint(ModelCheckpoint):
    """Keeps the best or the last epoch of a run whose folder may have moved since it was stopped."""

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the best epoch so far, with its path in the folder's present location.

        Args:
            state_dict: as Lightning's ``ModelCheckpoint`` saved it.
        """

        def here(path: str) -> str:
            return str(Path(str(self.dirpath)) / Path(path).name) if path else path

        moved = {name: here(state_dict[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
        best = {here(path): score for path, score in state_dict["best_k_models"].items()}
        super().load_state_dict({**state_dict, **moved, "dirpath": self.dirpath, "best_k_models": best})


def last_checkpoint(run: RunDir) -> Path | None:
    """The checkpoint that a run resumes from.

    Args:
        run: the run.

    Returns:
        The file; None where the run has to start from the beginning.

    Raises:
        RunError: there is one, but it is damaged or holds more than tensors and plain values.
    """
    path = run / "checkpoints" / LAST
    if not path.is_file():
        return None
    try:
        torch.load(path, "cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        raise RunError(
            f"{path} holds more than tensors and plain values and isn't loaded, since that could run code from it. It isn't "
            "Raylight's, or is damaged: delete it to train from the beginning."
        ) from error
    except (OSError, EOFError, RuntimeError, ValueError, KeyError) as error:
        raise RunError(f"{path} is damaged ({first_line(error)}): delete it to train from the beginning.") from error
    return path


def epochs_done(run: RunDir) -> int:
    """How many epochs a run has been trained for; an unfinished one doesn't count.

    Args:
        run: the run.

    Returns:
        0 or more.

    Raises:
        RunError: its checkpoint can't be used.
    """
    last = last_checkpoint(run)
    return 0 if last is None else int(torch.load(last, "cpu", weights_only=True, mmap=True)["epoch"]) + 1


def network_state(checkpoint: Path) -> dict[str, Tensor]:
    """The state dict of a checkpoint's network, for the network alone.

    Args:
        checkpoint: as ``last_checkpoint`` returns it.

    Returns:
        Parameters and buffers by name.
    """
    state = torch.load(checkpoint, "cpu", weights_only=True, mmap=True)["state_dict"]
    return {name.removeprefix("network."): value for name, value in state.items() if name.startswith("network.")}
