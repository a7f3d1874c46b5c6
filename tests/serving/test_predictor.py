"""A run folder alone must give back the network, whatever became of the data and the machine."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from raylight.serving import predictor as module
from raylight.serving.predictor import Predictor, UnusableRunError


def pixels(count: int, size: int) -> np.ndarray:
    """Noise, from black to bright, so that even an untrained network tells the images apart."""
    noise = np.random.default_rng(0).random((count, size, size, 3)) * np.linspace(0, 255, count)[:, None, None, None]
    return noise.astype(np.uint8)


def edit_config(run: Path, setting: str, value: object) -> None:
    config = OmegaConf.load(run / "config.yaml")
    OmegaConf.update(config, setting, value)
    OmegaConf.save(config, run / "config.yaml")


def edit_preprocessing(run: Path, **facts: object) -> None:
    path = run / "preprocessing.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))


@pytest.mark.parametrize(
    ("classes", "model"),
    [
        (("a", "b"), {}),
        (("a", "b"), {"head": "sigmoid", "normalize": "imagenet"}),
        (("a", "b", "c"), {"batch_norm": True, "pool": "average"}),
    ],
    ids=["softmax", "sigmoid", "three classes"],
)
def test_probabilities_are_the_networks_own_at_the_runs_temperature(
    untrained: Callable[..., Path], classes: tuple[str, ...], model: dict[str, object]
) -> None:
    predictor = Predictor.open(untrained(classes, temperature=0.4, **model), precision="fp32")
    images = pixels(11, 24)

    given = predictor.probabilities(images)

    logits = predictor.network(predictor.preprocessing.normalise(torch.from_numpy(images))) / 0.4
    if model.get("head") == "sigmoid":
        positive = torch.sigmoid(logits[:, 0])
        wanted = torch.stack([1 - positive, positive], dim=1)
    else:
        wanted = logits.softmax(dim=1)
    assert given.dtype == np.float64
    assert np.ptp(given[:, 0]) > 1e-3, "the images can't be told apart, so this test would prove nothing"
    np.testing.assert_allclose(given, wanted.numpy(), atol=1e-5)
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-12)


def test_the_runs_threshold_decides(untrained: Callable[..., Path]) -> None:
    run = untrained(("calm", "ill"))
    edit_preprocessing(run, threshold=0.2, positive_class="calm")

    decided = Predictor.open(run).decide(np.array([[0.1, 0.9], [0.25, 0.75], [0.2, 0.8]]))

    assert decided.tolist() == [1, 0, 1]


def test_neither_pretrained_weights_nor_data_are_needed(copied_run: Path) -> None:
    edit_config(copied_run, "model.weights", "/nowhere/pretrained.pt")
    edit_config(copied_run, "data.root", "/nowhere/images")
    edit_config(copied_run, "cache_dir", "/nowhere/cache")
    (copied_run / "index.parquet").unlink()

    assert Predictor.open(copied_run).probabilities(pixels(2, 32)).shape == (2, 2)


def test_bad_files_are_reported_among_good_ones(run: Path, images: Path, tmp_path: Path) -> None:
    good = sorted((images / "left").iterdir())[:9]
    text = tmp_path / "letter.jpg"
    text.write_text("Dear Sir or Madam")
    paths = [*good[:4], text, *good[4:], tmp_path / "absent.png"]
    predictor = Predictor.open(run)

    blocks = list(predictor.predict_files(paths))

    reasons = [reason for block in blocks for reason in block.reasons]
    assert [position for block in blocks for position in block.positions] == list(range(len(paths)))
    assert [position for position, reason in enumerate(reasons) if reason] == [4, 10]
    assert "No such file" in (reasons[10] or "")
    alone = np.concatenate([block.probabilities for path in good for block in predictor.predict_files([path])])
    np.testing.assert_allclose(np.concatenate([block.probabilities for block in blocks]), alone, atol=1e-5)


def test_another_processor_predicts_in_fp32_and_says_so(
    copied_run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    edit_config(copied_run, "trainer.precision", "bf16")
    monkeypatch.setattr(module, "bf16_supported", lambda: False)
    monkeypatch.setattr(logging.getLogger("raylight"), "propagate", True)

    assert Predictor.open(copied_run).precision == "fp32"
    assert "bf16, which this processor doesn't have" in caplog.text


def test_a_run_in_fp32_stays_in_fp32(copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit_config(copied_run, "trainer.precision", "32")
    monkeypatch.setattr(module, "bf16_supported", lambda: True)

    assert Predictor.open(copied_run).precision == "fp32"


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableRunError, match=r"is not a run folder: it has no config\.yaml") as caught:
        Predictor.open(tmp_path)
    assert caught.value.exit_code == 2


def test_an_unfinished_run_says_how_to_go_on(copied_run: Path) -> None:
    (copied_run / "model.safetensors").unlink()
    status = {"state": "interrupted", "host": "elsewhere", "reason": "stopped by the user"}
    (copied_run / "status.json").write_text(json.dumps(status))

    with pytest.raises(UnusableRunError, match=r"interrupted \(stopped by the user\).*raylight resume"):
        Predictor.open(copied_run)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        (
            "model.channels",
            [32, 32],
            r"model\.safetensors doesn't fit the network of the run's config\.yaml: 6 of another shape .* train it again",
        ),
        ("model.imagesize", 3, "can't be read as the settings"),
        ("model.family", "torchvision", "has no classifier 'cnn2'"),
    ],
)
def test_a_config_that_does_not_fit_is_a_sentence(copied_run: Path, setting: str, value: object, message: str) -> None:
    config = OmegaConf.to_container(OmegaConf.load(copied_run / "config.yaml"))
    section, name = setting.split(".")
    config[section][name] = value  # type: ignore[index,call-overload]
    OmegaConf.save(OmegaConf.create(config), copied_run / "config.yaml")

    with pytest.raises(UnusableRunError, match=message):
        Predictor.open(copied_run)


def test_damaged_files_are_named(copied_run: Path) -> None:
    edit_preprocessing(copied_run, mean=[0.5])
    with pytest.raises(UnusableRunError, match=r"preprocessing\.json doesn't describe a model"):
        Predictor.open(copied_run)

    edit_preprocessing(copied_run, mean=[0.5, 0.5, 0.5])
    weights = (copied_run / "model.safetensors").read_bytes()
    (copied_run / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UnusableRunError, match=r"model\.safetensors"):
        Predictor.open(copied_run)
