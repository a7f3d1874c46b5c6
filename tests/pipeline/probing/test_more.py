"""``raylight more`` says what more images would bring, draws it, and writes the same numbers."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import Result

from raylight.pipeline.probing.learning_curve import Curve
from raylight.pipeline.probing.more import More
from tests.pipeline.probing.conftest import NAMES, SMALL
from tests.trained_run import draw

Command = Callable[..., Result]


def curve(asymptote: float) -> Curve:
    return Curve((50, 100), (0.1, 0.05), np.full(9, 0.05), np.full(9, asymptote), np.full(9, 1.0))


@pytest.mark.parametrize(
    ("asymptote", "target", "end"),
    [
        (0.0, None, "1,000 images 99.5 % (99.5 to 99.5)."),
        (0.0, 0.99, "99 % needs about 500 images (500 to 500), 400 more."),
        (0.5, 0.99, "99 % is probably out of reach of this network with any number of images."),
        (0.5, 0.9, "90 % is probably reached already."),
    ],
)
def test_the_sentence_answers(asymptote: float, target: float | None, end: str) -> None:
    told = More(curve(asymptote), "resnet18", target).sentence
    assert told.startswith(
        "A head on resnet18's features has 95.0 % (95.0 to 95.0) with the 100 images here; 200 images 9"
    )
    assert told.endswith(end)
    json.dumps(More(curve(asymptote), "resnet18", target).as_json(), allow_nan=False)


def test_the_command_writes_what_it_says(raylight: Command, weights: Path, tmp_path: Path) -> None:
    for label in ("left", "right"):
        draw(tmp_path / "many", label, 40, 1)
    network = ("model=torchvision", f"model.name={NAMES[0]}", f"model.weights={weights}", f"cache_dir={tmp_path}/cache")
    done = raylight("more", tmp_path / "many", *network, *SMALL, "--accuracy", "0.9", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "out/more.json").read_text())
    assert done.stdout.splitlines()[0] == found["sentence"]
    assert [one["images"] for one in found["measured"]] == [9, 18, 36, 72]
    assert found["target"]["accuracy"] == 0.9
    assert [one["images"] for one in found["predicted"]] == [72, 144, 288, 720]
    assert all(one["low"] <= one["accuracy"] <= one["high"] for one in found["predicted"])
    with Image.open(tmp_path / "out/more.png") as picture:
        assert picture.width > 600

    few = raylight("more", tmp_path / "many", *network, *SMALL, "data.limit=30")
    assert (few.exit_code, "a learning curve needs at least 64 images, not 54" in few.stderr) == (2, True), few.output
    for words, told in (
        (["model=cnn2"], "a head on random features doesn't show the effect of more"),
        (["--accuracy", "95"], "--accuracy 95: expected a number between 0 and 1"),
    ):
        refused = raylight("more", tmp_path / "many", *words)
        assert (refused.exit_code, told in refused.stderr) == (2, True), refused.output
