"""A batch computed in pieces trains like the whole batch, where that is possible."""

import csv
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from raylight.config.schema import ModelConfig
from raylight.models.build import build_network
from raylight.models.freezing import boundary, looks_at_whole_batch
from tests.forked import last_line

Train = Callable[..., subprocess.CompletedProcess[str]]
SHORT = ("trainer.max_epochs=3", "data.limit=40", "decode=threads", "logger=csv", "report.enabled=false")
EXACT = ("trainer.precision=32", "trainer.channels_last=true", "trainer.gradient_clip=1.0")


def history(run: Path) -> list[dict[str, float]]:
    with (run / "history.csv").open() as file:
        return [
            {name: float(value) for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)
        ]


@pytest.mark.parametrize("loss", ["loss=cross_entropy", "loss=balanced"])
def test_pieces_give_the_same_training_as_whole_batches(train: Train, tmp_path: Path, loss: str) -> None:
    """Batches of 24 in 5 pieces, of which the last is smaller; the last batch has fewer images still."""
    histories = []
    for pieces in (1, 5):
        done = train(
            *SHORT,
            *EXACT,
            loss,
            "trainer.batch_size=24",
            f"trainer.pieces={pieces}",
            f"hydra.run.dir={pieces}",
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert ("batches in 5 pieces" in done.stdout) == (pieces == 5)
        histories.append(history(last_line(done)))
    whole, in_pieces = histories
    assert len(whole) == len(in_pieces) == 3
    for one, other in zip(whole, in_pieces, strict=True):
        assert other == pytest.approx(one, rel=1e-4, abs=1e-4, nan_ok=True)


def test_batch_norm_that_trains_forbids_pieces(train: Train, tmp_path: Path) -> None:
    done = train(*SHORT, "model=resnet18", "model.weights=null", "finetune=scratch", "trainer.pieces=2", cwd=tmp_path)
    assert done.returncode == 2
    assert "trainer.pieces: 2, but resnet18 has BatchNorm among the layers that train" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_only_what_trains_counts() -> None:
    network = build_network(ModelConfig(name="resnet18", family="torchvision", image_size=64), 2)
    assert looks_at_whole_batch(network, 0)
    assert looks_at_whole_batch(network, boundary(network, "layer4.1"))
    assert not looks_at_whole_batch(network, network.head_start)
