"""What rank says of a network is what scikit-learn's ridge regression on its features says, and no test image is looked at."""

import csv
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from sklearn.linear_model import Ridge
from torchvision.transforms.v2 import Normalize
from typer.testing import Result

import raylight as called
from raylight.errors import ConfigError, WeightsError
from raylight.pipeline.probing.networks import Candidate
from raylight.pipeline.probing.probes import probe_of, probed_images
from raylight.pipeline.probing.settings import probe_configs
from tests.pipeline.probing.conftest import NAMES, SMALL

Command = Callable[..., Result]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def test_the_accuracy_is_that_of_ridge_regression_refitted_without_each_image(
    pictures: Path, weights: Path, cache: Path
) -> None:
    settings = [f"data.root={pictures}", f"cache_dir={cache}", *SMALL]
    drawing = torch.get_rng_state()
    found = called.rank(*settings, f"model.weights={weights}")
    assert (torch.get_rng_state() == drawing).all()
    assert {one.network for one in found.networks} == set(NAMES)
    assert found.images == 54  # of 60, without 6 to test on

    one = next(one for one in found.networks if one.network == "shufflenet_v2_x0_5")
    config = probe_configs(settings, [Candidate(one.network, "torchvision", str(weights / f"{one.network}.pt"))])
    with probed_images(config, with_test=False) as images:
        pixels = np.concatenate([images.shown[0].source.samples(images.part).store[:]])
        samples = images.shown[0].source.samples(images.part)
        normalise = Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
        batch = normalise(torch.from_numpy(pixels[samples.rows]).permute(0, 3, 1, 2) / 255)
        targets = images.targets
    network = torchvision.models.get_model(one.network).eval()
    network.load_state_dict(torch.load(weights / f"{one.network}.pt", weights_only=True))
    network.fc = torch.nn.Identity()
    with torch.no_grad():
        features = network(batch).numpy().astype(np.float64)
    varying = features.std(0) > 1e-9
    features = (features[:, varying] - features[:, varying].mean(0)) / features[:, varying].std(0)
    truth, norms = np.eye(2)[targets], (features**2).sum() / len(features)
    best = (np.inf, 0.0)
    for power in range(-8, 9):
        scores = np.zeros_like(truth)
        for i in range(len(truth)):
            kept = np.arange(len(truth)) != i
            scores[i] = (
                Ridge(alpha=10 ** (power / 2) * norms).fit(features[kept], truth[kept]).predict(features[i : i + 1])
            )
        best = min(best, (float(((scores - truth) ** 2).mean()), float((scores.argmax(1) == targets).mean())))
    assert one.accuracy == pytest.approx(best[1], abs=1.5 / len(targets))
    assert one.parameters == sum(p.numel() for p in network.parameters()) + 1024 * 2 + 2
    assert one.images_per_second > 0


def test_no_test_image_is_looked_at_and_features_are_shared(pictures: Path, weights: Path, cache: Path) -> None:
    (config,) = probe_configs(
        [f"data.root={pictures}", f"cache_dir={cache}", *SMALL],
        [Candidate(NAMES[0], "torchvision", str(weights / f"{NAMES[0]}.pt"))],
    )
    with probed_images([config], with_test=False) as images:
        index = images.shown[0].index
        tested = images.shown[0].source.samples(index.in_split("test"))
        probe = probe_of(config, images, 0, lambda done, total: pytest.fail("computed again"))
        probe.features(np.arange(len(images.part)))  # which rank has left
        assert set(images.part.column("split")) == {"train", "val"}
    for marks in (cache / "features").glob("*/done.npy"):
        done = np.load(marks)
        assert not done[tested.rows].any()
        assert done.sum() == len(images.part)


def test_the_command_prints_the_table_and_the_winners_command_trains(
    raylight: Command, pictures: Path, weights: Path, cache: Path, tmp_path: Path
) -> None:
    typed = [str(pictures), f"cache_dir={cache}", *SMALL, f"model.weights={weights}"]
    done = raylight("rank", *typed, "models=mnasnet0_5,shufflenet_v2_x0_5:random", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert re.search(r"^shufflenet_v2_x0_5 .* weights: random$", done.stdout, re.MULTILINE)
    command = re.findall(r"^Train it: python train\.py (.*)$", done.stdout, re.MULTILINE)[0]
    assert f"data.root={pictures}" in shlex.split(command)
    with (tmp_path / "out/ranking.csv").open() as file:
        rows = list(csv.DictReader(file))
    facts = json.loads((tmp_path / "out/ranking.json").read_text())
    assert [row["network"] for row in rows] == [one["network"] for one in facts["networks"]]
    leader = rows[0]["network"]
    assert f"model.name={leader}" in command
    assert facts["sentence"].startswith(f"{leader} leads with {100 * float(rows[0]['accuracy']):.1f} % (")

    refused = raylight("rank", *typed, "models=squeezenet1_1,mnasnet0_5")
    assert refused.exit_code == 1
    assert "squeezenet1_1 isn't ranked: " in refused.stdout


def test_mistakes_are_sentences(raylight: Command, pictures: Path, tmp_path: Path) -> None:
    for words, told in (
        (["nowhere"], "nowhere: there is no such folder; expected a folder of images, or SETTING=VALUE"),
        ([str(pictures), "model=resnet18"], "model: rank sets it; the networks to rank are models=NAME,NAME"),
        ([str(pictures), "models=resnt18"], "did you mean 'resnet18'"),
        ([str(pictures), "models=resnet18:random", "data.limt=3"], "did you mean 'data.limit'"),
    ):
        done = raylight("rank", *words)
        assert (done.exit_code, told in done.stderr) == (2, True), done.output
    with pytest.raises(WeightsError, match="None of the networks can be probed: mnasnet0_5: "):
        called.rank(
            f"data.root={pictures}", f"cache_dir={tmp_path}", *SMALL, "models=mnasnet0_5", f"model.weights={tmp_path}"
        )
    with pytest.raises(ConfigError, match="finetune: rank sets it"):
        called.rank(f"data.root={pictures}", "finetune=full")
