"""``trainer=ray``: training processes that Ray Train places on the nodes of a cluster, or on this machine.

Lightning takes part through ``ray.train.lightning`` (``ray_worker``). When a worker or its node is lost, Ray Train restarts all
of them, and they resume from the last checkpoint, kept by an actor on the driver's node (``ray_actor``).
"""

import logging
from pathlib import Path
from typing import Any

from raylight.config.schema import RayConfig, TrainerConfig
from raylight.errors import RaylightError, RunError, first_line
from raylight.runs.ray_session import ray_session
from raylight.storage.scratch import scratch_folder
from raylight.training.distributed.driver import Driver
from raylight.training.distributed.ray_actor import Mailbox
from raylight.training.messages import FinishedTraining
from raylight.training.trainer import Training

log = logging.getLogger(__name__)

_PATIENCE = 0.5
"""Seconds that the driver waits for messages before it checks whether Ray Train has given up."""

_SETTLED = 90.0
"""Seconds within which the processes of a session end whose driver was killed."""


def fit_with_ray(training: Training, config: RayConfig, driver: Driver, resume_from: Path | None) -> FinishedTraining:
    """Train in ``num_workers`` workers of Ray Train and wait for them.

    Args:
        training: what to train.
        config: session to start or join.
        driver: receives their messages.
        resume_from: a checkpoint of the run to resume from.

    Returns:
        The best checkpoint, and how long training took.

    Raises:
        RunError: workers died more often than ``trainer.max_failures`` allows.
        RaylightError: Ray can't start, or has no room for the workers; or what a worker raised.
    """
    with ray_session(config), scratch_folder("train", _SETTLED) as storage:
        import ray as untyped

        ray: Any = untyped
        cpus = _cpus_per_worker(training.config, ray.nodes())
        log.info(
            "Training in %d Ray worker%s of %d CPU%s each.",
            training.config.num_workers,
            "s" if training.config.num_workers > 1 else "",
            cpus,
            "s" if cpus > 1 else "",
        )
        here = {"num_cpus": 0, "label_selector": {"ray.io/node-id": ray.get_runtime_context().get_node_id()}}
        kept = [] if resume_from is None else resume_from.parent.glob("*.ckpt")
        checkpoints = {f"checkpoints/{path.name}": path.read_bytes() for path in kept}
        mailbox = ray.remote(Mailbox).options(**here).remote(checkpoints)
        task = mailbox.train.remote([ray.put(training.pickled())], training.config, cpus, str(storage))
        try:
            while driver.finished is None:
                ended = ray.wait([task], timeout=0)[0]
                for message in ray.get(mailbox.take.remote(_PATIENCE)):
                    driver.receive(message)
                if ended and driver.finished is None:
                    raise RunError(_lost(ray.get(task)))
            return driver.finished
        except ray.exceptions.RayError as error:
            raise RunError(f"Ray gave up training: {first_line(error)}. Continue with: raylight resume RUN") from error
        finally:
            ray.kill(mailbox)


def _lost(reason: str | None) -> str:
    """The message for a training that Ray Train ended without a result."""
    return (
        f"Ray's training workers were lost and not replaced ({reason or 'they ended without a result'}). The run is complete "
        "up to its last epoch: continue with raylight resume RUN; trainer.max_failures says how often Ray restarts them"
    )


def _cpus_per_worker(config: TrainerConfig, nodes: list[dict[str, Any]]) -> int:
    """The largest number of CPUs per worker at which all workers fit on the nodes at the same time.

    Returns:
        1 or more.

    Raises:
        RaylightError: they don't fit; Ray would wait for ever.
    """
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    gpus = [int(resources.get("GPU", 0)) for resources in alive]
    cores = [int(resources.get("CPU", 0)) for resources in alive]
    wanted, needs_gpu = config.num_workers, config.accelerator == "gpu"

    def room(cpus: int) -> int:
        places = zip(cores, gpus, strict=True)
        return sum(min(free // cpus, found) if needs_gpu else free // cpus for free, found in places)

    if room(1) < wanted:
        has = f"{sum(cores)} CPUs" + (f" and {sum(gpus)} GPUs" if needs_gpu else "")
        raise RaylightError(
            f"trainer.num_workers={wanted} needs a CPU{' and a GPU' if needs_gpu else ''} for each training process, but "
            f"Ray has {has} on {len(alive)} node{'s' if len(alive) > 1 else ''}. Lower trainer.num_workers or add nodes"
        )
    return max(cpus for cpus in range(1, max(cores) + 1) if room(cpus) >= wanted)
