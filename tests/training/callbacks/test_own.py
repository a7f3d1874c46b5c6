"""Callbacks of the user's own take part in a training, keep their state over a stop, and are refused where they couldn't."""

from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from raylight.errors import ConfigError
from raylight.training.callbacks.own import build_callbacks
from tests.training.tiny import classifier, history, trained


class Counts(pl.Callback):
    """Logs how many epochs it has seen since the run began."""

    def __init__(self, start: int = 0, state: Any = None) -> None:
        self.epochs, self.state = start, state

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs += 1
        pl_module.log("mine/epochs", float(self.epochs))

    def state_dict(self) -> dict[str, Any]:
        return {"epochs": self.epochs} if self.state is None else {"state": self.state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.epochs = state_dict["epochs"]


PATH = {"_target_": "pathlib.Path", "_args_": ["x"]}


def node(kind: str = "Counts", **arguments: Any) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{kind}", **arguments}


def test_what_it_logs_is_in_the_history_and_a_stop_changes_nothing(tmp_path: Path) -> None:
    trained(tmp_path, classifier(), *build_callbacks([node(start=10)]), max_epochs=2)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    trained(tmp_path, classifier(), *build_callbacks([node(start=70)]), resume_from=last)
    assert [row["mine/epochs"] for row in history(tmp_path)] == [11, 12, 13, 14, 15]


def made_of_nothing() -> dict[str, int]:
    return {}


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([node("made_of_nothing")], r"callbacks\[0\]: .* made a dict; expected a pytorch_lightning.Callback$"),
        ([node(), node(start=1)], r"callbacks\[1\]: .* keeps a state under 'Counts', as another one does"),
        (
            [node(state={"_target_": "pathlib.Path", "_args_": ["x"]})],
            r"callbacks\[0\]: .*Counts.state_dict\(\) can't be read back",
        ),
        ([node(strt=1)], r"callbacks\[0\]: .*Counts: TypeError: .*'strt'"),
    ],
)
def test_what_could_not_take_part_is_refused(nodes: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_callbacks(nodes)
