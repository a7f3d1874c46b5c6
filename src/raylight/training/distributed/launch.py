"""Where a training runs: in this process, in several of this machine (``local``), or in Ray's workers (``ray``).

Each process gets the same prepared training and calls the same ``fit`` on its share of every batch (``worker``). The run
folder, the log and the tracker stay with the process that prepared the training (``driver``).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from raylight.config.schema import RayConfig, TrainerConfig
from raylight.errors import ConfigError
from raylight.runs.run_dir import RunDir
from raylight.training.distributed.driver import Driver
from raylight.training.messages import FinishedTraining
from raylight.training.trainer import Placement, Training, fit


def run_training(
    training: Training, ray: RayConfig, run: RunDir, loggers: Sequence[Any], resume_from: Path | None
) -> FinishedTraining:
    """Train a classifier to its end where the config says: in this process, in several of this machine, or in Ray's workers.

    Args:
        training: what to train, on which batches; its config says where.
        ray: session to start or join for ``launcher=ray``.
        run: gets ``history.csv`` and ``checkpoints/``.
        loggers: Lightning's; may be empty.
        resume_from: a checkpoint to resume from.

    Returns:
        The best checkpoint, and how long training took.

    Raises:
        RunError: the loss became NaN, or a training process was lost and not replaced.
        DataError: a training process can't see the images.
        RaylightError: Ray can't start, or has no room for the processes.
    """
    config = training.config
    if config.launcher != "ray" and config.num_workers == 1:
        return fit(training, run, list(loggers) or False, resume_from, Placement(config.accelerator))
    training.loaders.prepare()
    driver = Driver(run, loggers)
    if config.launcher == "ray":
        from raylight.training.distributed.ray import fit_with_ray

        return fit_with_ray(training, ray, driver, resume_from)
    from raylight.training.distributed.local import fit_in_processes

    return fit_in_processes(training, driver, resume_from)


def check_accelerator(config: TrainerConfig) -> None:
    """Refuse a training that needs more GPUs than are here; those of a Ray cluster are checked when it is joined.

    Args:
        config: accelerator, launcher and number of processes.

    Raises:
        ConfigError: there are too few.
    """
    if config.accelerator != "gpu" or config.launcher == "ray":
        return
    found = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if found < config.num_workers:
        raise ConfigError(
            [
                f"trainer.accelerator: gpu with trainer.num_workers={config.num_workers} needs as many GPUs, but torch "
                f"{torch.__version__} finds {found} here; use trainer=cpu, or a machine (and a build of torch) with GPUs"
            ]
        )
