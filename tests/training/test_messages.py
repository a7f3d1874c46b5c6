"""Messages travel between processes whole, and whoever reads them needs no heavy library."""

import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from raylight.errors import DataError
from raylight.training.messages import Ended, File, FinishedTraining, LogLine, Message, Metrics


@pytest.mark.parametrize(
    "message",
    [
        LogLine("raylight", 20, "text"),
        Metrics({"val/loss": 0.5}, None),
        File("history.csv", b"epoch\n"),
        Ended(FinishedTraining(Path("best.ckpt"), 1, "val/loss", 0.5, 3, 9.0, 0.1)),
    ],
)
def test_a_message_is_the_same_on_the_other_side(message: Message) -> None:
    assert pickle.loads(pickle.dumps(message)) == message


def test_an_error_keeps_its_kind_and_its_words() -> None:
    ended = pickle.loads(pickle.dumps(Ended(error=DataError("no images"))))
    assert (type(ended.error), str(ended.error)) == (DataError, "no images")


def test_reading_messages_imports_nothing_heavy() -> None:
    code = "import sys, raylight.training.messages; print({'torch', 'ray', 'pytorch_lightning', 'numpy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
