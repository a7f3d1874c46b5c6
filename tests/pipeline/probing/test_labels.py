"""Planted label errors are found in seconds, without a cross-validation and without what a run has learnt from them."""

import csv
from collections.abc import Callable
from pathlib import Path

from typer.testing import Result

from raylight.pipeline.probing.labels import labels_of_features, run_config
from raylight.pipeline.probing.networks import Candidate
from raylight.pipeline.probing.settings import probe_configs
from tests.auditing.test_dataset import pictures
from tests.pipeline.probing.conftest import NAMES, SMALL

Command = Callable[..., Result]


def planted(root: Path) -> Path:
    folder = pictures(root, brighter=90)
    for source, target, number in (("cat", "dog", 3), ("cat", "dog", 17), ("dog", "cat", 5)):
        (folder / source / f"{number}.png").rename(folder / target / f"flipped{number}.png")
    return folder


def test_planted_errors_are_found_by_a_head_on_features(raylight: Command, weights: Path, tmp_path: Path) -> None:
    folder = planted(tmp_path / "d")
    network = ("model=torchvision", f"model.name={NAMES[0]}", f"model.weights={weights}")
    done = raylight("labels", folder, *network, *SMALL, f"cache_dir={tmp_path}", "--out", tmp_path / "out")
    assert done.exit_code == 1, done.output
    assert (
        f"3 of 60 labels are suspect, judged by a linear head on {NAMES[0]}'s features that wasn't fitted on the image"
        in done.stdout
    )
    with (tmp_path / "out/label_errors.csv").open() as file:
        found = {row["path"]: (row["label"], row["likely"]) for row in csv.DictReader(file)}
    assert found == {
        "dog/flipped3.png": ("dog", "cat"),
        "dog/flipped17.png": ("dog", "cat"),
        "cat/flipped5.png": ("cat", "dog"),
    }


def test_without_a_pretrained_network_the_thumbnails_judge_and_say_what_would_be_better(
    raylight: Command, tmp_path: Path
) -> None:
    done = raylight("labels", planted(tmp_path / "d"), "model.weights=null", f"cache_dir={tmp_path}")
    assert done.exit_code == 1, done.output
    assert "judged by a logistic regression on 32 x 32 thumbnails" in done.stdout


def test_a_run_is_judged_by_its_network_as_it_was_before_training(
    raylight: Command, run: Path, weights: Path, pictures: Path, tmp_path: Path
) -> None:
    done = raylight("labels", run)
    assert done.exit_code == 2
    assert "its network began with random weights; name the images, and a pretrained network" in done.stderr
    assert "it takes no settings" in raylight("labels", run, "data.limit=3").stderr
    file = weights / f"{NAMES[0]}.pt"
    (wanted,) = probe_configs(
        [f"data.root={pictures}", f"cache_dir={tmp_path}", *SMALL], [Candidate(NAMES[0], "torchvision", str(file))]
    )
    text = (run / "config.yaml").read_text()
    assert "name: cnn2" in text
    from omegaconf import OmegaConf

    trained = OmegaConf.merge(
        OmegaConf.structured(wanted), {"finetune": {"name": "full", "phases": [{"train_from": "all"}]}}
    )
    (tmp_path / "run").mkdir()
    OmegaConf.save(trained, tmp_path / "run/config.yaml")
    config = run_config(tmp_path / "run", ())
    assert (config.finetune.name, config.model.weights) == ("probe", str(file))
    again, first = labels_of_features(config), labels_of_features(wanted)
    assert (again.suspects, again.accuracy) == (first.suspects, first.accuracy)
    assert again.n == 60
