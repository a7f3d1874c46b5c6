"""The actor in a Ray process that starts the training workers and passes on their messages.

Imports nothing heavy at the top, since each of Ray's processes imports this module again.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from raylight.config.schema import TrainerConfig
from raylight.errors import first_line
from raylight.training.messages import File, LogLine, Message

_STARTS = 5
"""Attempts of Ray Train, a minute each, to get resources for all workers: a lost node may not come back."""


class Mailbox:
    """Starts Ray Train and keeps its workers' messages until the driver takes them; an actor on the driver's node.

    Ray Train's controller and workers are children of this actor: killing it ends them all.

    Args:
        checkpoints: of the run so far, by their names in the run folder; newer ones replace them.
    """

    def __init__(self, checkpoints: dict[str, bytes]) -> None:
        self.kept = dict(checkpoints)
        self.waiting: asyncio.Queue[Message] = asyncio.Queue()

    async def put(self, message: Message) -> None:
        """Keep a message for the driver, and a checkpoint for workers that are restarted.

        Args:
            message: from a worker.
        """
        if isinstance(message, File) and message.name.startswith("checkpoints/"):
            self.kept[message.name] = message.content
        await self.waiting.put(message)

    async def take(self, patience: float) -> list[Message]:
        """Take all waiting messages.

        Args:
            patience: seconds to wait for the first one.

        Returns:
            Messages in order; none if no one came in time.
        """
        try:
            messages = [await asyncio.wait_for(self.waiting.get(), patience)]
        except TimeoutError:
            return []
        while not self.waiting.empty():
            messages.append(self.waiting.get_nowait())
        return messages

    async def checkpoints(self) -> dict[str, bytes]:
        """The newest checkpoints.

        Returns:
            Contents by name in the run folder.
        """
        return self.kept

    async def train(self, pickled: list[Any], config: TrainerConfig, cpus: int, storage: str) -> str | None:
        """Run Ray Train to its end.

        Args:
            pickled: reference to the training.
            config: number of workers, accelerator and failures.
            cpus: per worker.
            storage: a folder, which Ray Train requires; nothing is kept there.

        Returns:
            Why it failed; None if it didn't.
        """
        import ray

        me: Any = ray.get_runtime_context().current_actor
        return await asyncio.to_thread(_run_ray_train, me, pickled, config, cpus, storage)


def _run_ray_train(mailbox: Any, pickled: list[Any], config: TrainerConfig, cpus: int, storage: str) -> str | None:
    """Run Ray Train to its end; the arguments are those of ``Mailbox.train``.

    Args:
        mailbox: the actor for messages.
        pickled: reference to the training.
        config: number of workers, accelerator and failures.
        cpus: of each worker.
        storage: a folder, since Ray Train wants one; it is given nothing to keep there.

    Returns:
        Why it failed; None if it didn't.
    """
    from ray.train import ControllerError, RunConfig, ScalingConfig, TrainingFailedError, WorkerGroupError
    from ray.train.torch import TorchTrainer
    from ray.train.v2.api.config import FailureConfig

    gpu = config.accelerator == "gpu"
    trainer = TorchTrainer(
        _work,
        train_loop_config={"mailbox": mailbox, "pickled": pickled, "accelerator": config.accelerator, "threads": cpus},
        scaling_config=ScalingConfig(
            num_workers=config.num_workers,
            use_gpu=gpu,
            resources_per_worker={"CPU": cpus, "GPU": 1} if gpu else {"CPU": cpus},
        ),
        run_config=RunConfig(
            name="raylight",
            storage_path=storage,
            failure_config=FailureConfig(max_failures=config.max_failures, controller_failure_limit=_STARTS),
            callbacks=[_reports_failures(mailbox, config.max_failures)],
        ),
    )
    try:
        trainer.fit()
    except WorkerGroupError as error:
        return _named(error.worker_failures)
    except ControllerError as error:
        return first_line(error.controller_failure)
    except TrainingFailedError as error:
        return first_line(error)
    return None


def _work(config: dict[str, Any]) -> None:
    """What Ray Train runs in each worker."""
    from raylight.training.distributed.ray_worker import work

    work(**config)


def _reports_failures(mailbox: Any, allowed: int) -> Any:
    """A callback of Ray Train's controller that reports lost workers in the driver's log.

    Args:
        mailbox: the actor for messages.
        allowed: how often Ray Train restarts them.

    Returns:
        An instance of ``ray.train.UserCallback``.
    """
    import ray
    from ray.train import UserCallback

    class ReportsFailures(UserCallback):
        failures = 0

        def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
            self.failures += 1
            named = _named(worker_exceptions)
            after = "restarts all of them, from the last complete epoch" if self.failures <= allowed else "gives up"
            line = LogLine("raylight.training", logging.WARNING, f"Training failed in {named}. Ray {after}.")
            ray.get(mailbox.put.remote(line))

    return ReportsFailures()


def _named(failures: Mapping[int, BaseException]) -> str:
    """Which processes failed, and why; those that only lost their connection to another one (gloo) are left out."""
    lost = {rank: first_line(error) for rank, error in sorted(failures.items()) if "gloo" not in str(error)}
    return ", ".join(f"process {rank}: {reason.rstrip('.')}" for rank, reason in lost.items()) or "all processes"
