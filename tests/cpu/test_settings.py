"""Precision, memory format and threads: chosen by flags for short runs, by timing for long ones, then remembered."""

import json
import os
from pathlib import Path

import pytest
import torch

from raylight.config.schema import ModelConfig, TrainerConfig
from raylight.cpu.settings import MIN_SPEEDUP, SHORT_RUN, Work, choose_settings, measured_settings
from raylight.models.build import build_network
from raylight.models.preprocessing import Preprocessing
from raylight.pipeline.learner import restored_processor


@pytest.fixture(autouse=True)
def few_repetitions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raylight.cpu.settings.REPEATED", 0.3)


@pytest.fixture(scope="module")
def work() -> Work:
    """Many steps of a small network with BatchNorm and dropout."""
    model = ModelConfig(
        name="cnn5", image_size=64, channels=[8, 8], batch_norm=True, conv_dropout=0.1, dense=[8], dropout=0.5
    )
    torch.manual_seed(0)
    network = build_network(model, 2)
    images = torch.randint(0, 256, (16, 3, 64, 64), dtype=torch.uint8)
    targets = torch.arange(16) % 2
    loss = torch.nn.functional.cross_entropy
    return Work(network, 0, Preprocessing.from_config(model), loss, images, targets, steps=10_000_000)


def test_a_long_run_is_measured_remembered_and_leaves_torch_alone(work: Work, tmp_path: Path) -> None:
    trainer = TrainerConfig()
    flags = choose_settings(trainer)
    weights = {name: value.clone() for name, value in work.network.state_dict().items()}
    numbers, threads = torch.get_rng_state(), torch.get_num_threads()
    chosen = measured_settings(trainer, flags, work, tmp_path)
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.get_num_threads() == threads
    assert all(torch.equal(value, weights[name]) for name, value in work.network.state_dict().items())
    assert chosen.reason.startswith("measured: ")
    speeds = [float(part.rsplit(" ", 2)[1]) for part in chosen.reason.removeprefix("measured: ").split("; ")]
    assert len(speeds) >= 2  # how many more are tried depends on how busy the machine is
    assert speeds == sorted(speeds, reverse=True)
    told = dict(part.rsplit(" ", 2)[:2] for part in chosen.reason.removeprefix("measured: ").split("; "))
    assert float(told[str(chosen)]) * MIN_SPEEDUP >= 0.99 * speeds[0]
    again = measured_settings(trainer, flags, work, tmp_path)
    assert again.reason == f"measured before: {chosen.reason.removeprefix('measured: ')}"
    assert (again.precision, again.channels_last, again.threads) == (
        chosen.precision,
        chosen.channels_last,
        chosen.threads,
    )
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["precision"] == chosen.precision
    file.write_bytes(b"")  # as a disk may leave it
    anew = measured_settings(trainer, flags, work, tmp_path)
    assert anew.reason.startswith("measured: ")
    assert json.loads(file.read_text())["precision"] == anew.precision


def test_a_short_run_goes_by_the_flags(work: Work, tmp_path: Path) -> None:
    trainer = TrainerConfig()
    flags = choose_settings(trainer)
    short = Work(work.network, 0, work.preprocessing, work.loss, work.images, work.targets, steps=3)
    chosen = measured_settings(trainer, flags, short, tmp_path)
    assert "too short to measure" in chosen.reason
    assert (chosen.precision, chosen.channels_last, chosen.threads) == (
        flags.precision,
        flags.channels_last,
        flags.threads,
    )
    assert not list(tmp_path.iterdir())
    assert SHORT_RUN == 120


def test_what_the_config_fixes_is_not_measured(work: Work, tmp_path: Path) -> None:
    fixed = TrainerConfig(precision="32", channels_last="false", threads=1)
    chosen = measured_settings(fixed, choose_settings(fixed), work, tmp_path)
    assert (chosen.precision, chosen.channels_last, chosen.threads, chosen.reason) == (
        "32",
        False,
        1,
        "as the config says",
    )
    half = TrainerConfig(precision="32", threads=1)
    chosen = measured_settings(half, choose_settings(half), work, tmp_path)
    assert (chosen.precision, chosen.threads) == ("32", 1)
    assert "bf16" not in chosen.reason


def test_a_training_on_the_processor_sees_no_gpu_and_leaves_the_process_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads = torch.get_num_threads()
    for before in ("0", None):
        if before is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
        with restored_processor("cpu"):
            torch.set_num_threads(threads + 1)
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
        assert torch.get_num_threads() == threads
        with restored_processor("gpu"):
            assert os.environ.get("CUDA_VISIBLE_DEVICES") == before


def test_a_precision_that_loses_the_loss_is_not_taken(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No difference at all is allowed here, which bf16 can't meet."""
    monkeypatch.setattr("raylight.cpu.settings.LOSS_TOLERANCE", 0.0)
    trainer = TrainerConfig(channels_last="true", threads=1)
    chosen = measured_settings(trainer, choose_settings(trainer), work, tmp_path)
    assert chosen.precision == "32"
