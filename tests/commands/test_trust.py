"""A whole run on a set with planted faults: each is told, in the log, in the files and beside the result."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
from PIL import Image

from tests.forked import last_line


def draw(path: Path, seed: int, bright: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 150, (12, 12, 3), np.uint8) + np.uint8(90 * bright)
    Image.fromarray(small).resize((48, 48), Image.Resampling.BICUBIC).save(path)


def test_a_run_tells_what_its_result_rests_on(train: Callable[..., CompletedProcess[str]], tmp_path: Path) -> None:
    root = tmp_path / "films"
    for split, each in (("train", 24), ("test", 10)):
        for k, name in enumerate(("normal", "sick")):
            for i in range(each):
                draw(root / split / name / f"{name}{split}{i}.png", 1000 * (split == "test") + 100 * k + i, bool(k))
    draw(root / "train/sick/p7-a.png", 5000, True)
    draw(root / "test/sick/p7-b.png", 5001, True)
    shutil.copy(root / "train/normal/normaltrain3.png", root / "test/normal/copy.png")

    done = train(
        "data=folder",
        f"data.root={root}",
        r"data.group_pattern='^(p\d+)-'",
        "model=cnn2",
        "model.image_size=32",
        "augment=none",
        "trainer.max_epochs=3",
        "trainer.threads=1",
        "trainer.batch_size=8",
        "decode=threads",
        "logger=none",
        "report.plots=false",
        "report.shortcuts=true",
        cwd=tmp_path,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / last_line(done)
    assert "problem: The label can be predicted without looking at the picture" in done.stdout
    assert "problem: 1 picture is in more than one of train" in done.stdout
    assert "2 test images show a patient or a picture that is also in train or validation" in done.stdout
    audit = json.loads((run / "audit.json").read_text())
    kinds = {finding["kind"] for finding in audit["findings"] if finding["severity"] == "problem"}
    assert kinds == {"give_away", "duplicates_across_splits", "groups_across_splits"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["test/accuracy"]["n"] == 22
    assert metrics["test_unshared/accuracy"]["n"] == 20
    shared = {one["path"]: one["why"] for one in metrics["leakage"]["files"]}
    assert shared == {"test/normal/copy.png": "picture", "test/sick/p7-b.png": "patient"}
    assert len((run / "looks.csv").read_text().splitlines()) == 2  # a heading, and the run's own look
    shortcuts = json.loads((run / "shortcuts.json").read_text())
    suspicious = {check["name"]: check["suspicious"] for check in shortcuts["checks"]}
    assert suspicious["histogram"]  # the planted brightness
    assert shortcuts["real"]["value"] == metrics["test/accuracy"]["value"]
    page = (run / "report.html").read_text()
    for words in (
        "Without images shared with training",
        "can be predicted without looking at the picture",
        "Shortcuts",
    ):
        assert words in page
