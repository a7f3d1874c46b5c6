"""Who takes part: the environment, the command and the variables of each."""

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from experiments.environments import Environment
from experiments.peers.task import Task

ROOT = Path(__file__).resolve().parents[2]
OURS = "raylight"


@dataclass(frozen=True)
class Contender:
    """A framework that trains and tests.

    Attributes:
        name: as in the tables.
        package: whose version is told.
        adapter: module of ``adapters/`` that carries out a task; for ours ``train.py`` does.
        environment: where it runs.
        modes: ``default``, ``equal`` or both.
        variables: what it finds in its environment, from the folder of caches that the bench has filled.
    """

    name: str
    package: str
    adapter: str
    environment: Environment
    modes: tuple[str, ...] = ("default", "equal")
    variables: Callable[[Path], dict[str, str]] = field(default=lambda _: {})

    def command(self, python: Path, set_name: str, task: Task, file: Path) -> list[str | Path]:
        """What is typed.

        Args:
            python: of its environment.
            set_name: of the images.
            task: what is to be done.
            file: the task, written down.
        """
        if self.name == OURS:
            return [python, ROOT / "train.py", *our_settings(set_name, task)]
        return [python, "-m", f"experiments.peers.adapters.{self.adapter}", file]


def our_settings(set_name: str, task: Task) -> list[str]:
    """Raylight's settings for a task; nothing is cached from an earlier run.

    Args:
        set_name: ``films`` or ``photos``.
        task: what is to be done.
    """
    settings = [
        f"model={task.network}",
        f"model.weights={task.weights}",
        *(["data=xray"] if set_name == "films" else []),
        f"data.root={task.data}",
        f"cache_dir={task.scratch}/cache",
        f"hydra.run.dir={task.scratch}/run",
        f"seed={task.seed}",
    ]
    if task.is_equal:
        settings += [
            "finetune=full",
            "augment=none",
            "optimizer=adam",
            f"optimizer.lr={task.learning_rate}",
            f"trainer.max_epochs={task.epochs}",
            "trainer.patience=null",
            f"trainer.batch_size={task.batch_size}",
            f"model.image_size={task.image_size}",
        ]
    return settings


def torch_hub(caches: Path) -> dict[str, str]:
    """Torch's hub cache is where torchvision finds downloaded weights."""
    return {"TORCH_HOME": str(caches / "torch")}


def lightly_train(caches: Path) -> dict[str, str]:
    """LightlyTrain's documented switches: no events are sent, and its caches lie among the bench's."""
    return {
        **torch_hub(caches),
        "LIGHTLY_TRAIN_EVENTS_DISABLED": "1",
        "LIGHTLY_TRAIN_CACHE_DIR": str(caches / "lightly"),
    }


def no_hub(caches: Path) -> dict[str, str]:
    """Torch's hub cache, and Hugging Face's hub is never asked."""
    return {**torch_hub(caches), "HF_HUB_OFFLINE": "1"}


def fill_caches(caches: Path, weights: Path) -> None:
    """Put the weights where frameworks keep what they have downloaded.

    torchvision checks the digest in a file's name when it downloads it, not when it is there.

    Args:
        caches: folder to fill.
        weights: file of ResNet18's.
    """
    from torchvision.models import ResNet18_Weights

    hub = caches / "torch" / "hub" / "checkpoints"
    hub.mkdir(parents=True, exist_ok=True)
    shutil.copy(weights, hub / Path(ResNet18_Weights.DEFAULT.url).name)


PROJECT = Environment("project")
CONTENDERS = {
    each.name: each
    for each in (
        Contender(OURS, "raylight", "", PROJECT),
        Contender("plain loop", "torch", "by_hand", PROJECT, ("equal",)),
        Contender("fastai", "fastai", "with_fastai", Environment("fastai", ("fastai",)), variables=torch_hub),
        Contender(
            "lightly_train",
            "lightly-train",
            "with_lightly_train",
            Environment("lightlytrain", ("lightly-train",)),
            variables=lightly_train,
        ),
        Contender(
            "autogluon",
            "autogluon.multimodal",
            "with_autogluon",
            Environment("autogluon", ("autogluon.multimodal",)),
            variables=no_hub,
        ),
        Contender(
            "ludwig",
            "ludwig",
            "with_ludwig",
            # It asks for Python 3.12, and the newest torchaudio, which it imports, refuses the CUDA version of torch 2.15.
            Environment("ludwig", ("ludwig", "torch==2.13.*", "torchvision"), python="3.12"),
            variables=no_hub,
        ),
    )
}


def variables_of(contender: Contender, caches: Path) -> dict[str, str]:
    """The environment variables of a contender's command.

    Args:
        contender: that runs.
        caches: folder that ``fill_caches`` has filled.
    """
    path = f"{ROOT}:{ROOT / 'src'}" if contender.environment == PROJECT else str(ROOT)
    interpreter = str(Path(sys.executable).parent)
    keep = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    keep["PATH"] = f"{interpreter}:{keep['PATH']}"
    return {**keep, "PYTHONPATH": path, **contender.variables(caches)}
