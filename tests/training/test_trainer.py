"""Lightning's Trainer for a run: which epochs the checkpoints hold, and what an epoch's loss is."""

import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from sklearn import metrics as reference
from torch.nn import functional as nnf

from raylight.config.schema import FinetuneConfig, ModelConfig, TrainerConfig
from raylight.cpu.settings import CpuSettings
from raylight.data.batches import Batches, Batching, Order
from raylight.errors import ConfigError, RunError
from raylight.runs.run_dir import RunDir
from raylight.training.module import Classifier
from raylight.training.optimization import Optimization
from raylight.training.phases import Phase, plan_phases
from raylight.training.trainer import History, Training, _line, fit
from tests.training.tiny import RISING, SGD, TRAIN, VAL, checkpoint, classifier, history, loaders_of, samples, trained

CPU = CpuSettings("32", False, 1, "")


def test_best_and_last_hold_their_epochs_where_the_loss_rises(tmp_path: Path) -> None:
    finished = trained(tmp_path, classifier(optimizer=RISING))
    losses = [row["val/loss"] for row in history(tmp_path)]
    assert losses == sorted(losses)
    checkpoints = tmp_path / "run" / "checkpoints"
    epochs = {path.name: checkpoint(tmp_path, path.name)["epoch"] for path in checkpoints.iterdir()}
    assert epochs == {"best.ckpt": 0, "last.ckpt": 4}
    assert finished.best_epoch == 0


def test_the_mode_decides_which_epoch_is_best(tmp_path: Path) -> None:
    finished = trained(tmp_path, classifier(optimizer=RISING), monitor_mode="max")
    assert finished.best_epoch == 4
    assert checkpoint(tmp_path, "best.ckpt")["epoch"] == 4


def test_training_stops_once_patience_is_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Epoch 0 is best where the loss rises, and epoch 4 where the loss is to rise."""
    with caplog.at_level("INFO"):
        falls = trained(tmp_path / "falls", classifier(optimizer=RISING), patience=2)
    assert (falls.epochs, falls.stopped_by) == (3, "trainer.patience")
    assert (
        "trainer.patience=2: training stopped after epoch 3 of 5, since val/loss had not improved since epoch 1."
        in caplog.messages
    )
    rises = trained(tmp_path / "rises", classifier(optimizer=RISING), patience=2, monitor_mode="max")
    assert (rises.epochs, rises.stopped_by) == (5, None)


def test_a_callback_that_does_not_fit_the_settings_is_a_mistake_in_them(tmp_path: Path) -> None:
    """This one measures what it can't hand over: training here is without a logger."""
    with pytest.raises(ConfigError, match="Lightning says: Cannot use `DeviceStatsMonitor` callback with `Trainer"):
        trained(tmp_path, classifier(), pl.callbacks.DeviceStatsMonitor())


def test_a_clipped_gradient_is_no_longer_than_allowed(tmp_path: Path) -> None:
    """One step of SGD at a rate of 1 moves the weights by the gradient."""
    learner = classifier(optimizer=SGD | {"lr": 1.0})
    before = torch.nn.utils.parameters_to_vector(learner.parameters()).detach()
    trained(tmp_path, learner, batch_size=20, max_epochs=1, gradient_clip=1e-3)
    step = torch.nn.utils.parameters_to_vector(learner.parameters()) - before
    assert float(step.detach().norm()) == pytest.approx(1e-3, rel=1e-2)


def test_the_validation_loss_is_the_weighted_loss_of_all_images(tmp_path: Path) -> None:
    """19 images of one class and 1 of the other, in batches of 7, 7 and 6; nothing is learnt at a rate of nearly 0."""
    weights = torch.tensor([0.5, 10.0])
    learner = classifier(optimizer=SGD | {"lr": 1e-30}, weights=weights)
    trained(tmp_path, learner)
    with torch.no_grad():
        logits = learner.eval()(torch.from_numpy(VAL.store).permute(0, 3, 1, 2))
    expected = nnf.cross_entropy(logits, torch.from_numpy(VAL.targets), weight=weights)
    assert history(tmp_path)[-1]["val/loss"] == pytest.approx(float(expected), abs=2e-6)


@pytest.mark.parametrize(("name", "size"), [("resnet18", 32), ("inception_v3", 75)])
def test_a_last_batch_of_one_trains_under_batch_norm(
    name: str, size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three images in batches of two: at the network's end BatchNorm sees a single value per channel and image."""
    quick = lambda weight, std, **_: torch.nn.init.normal_(weight, std=std)  # noqa: E731
    monkeypatch.setattr(torch.nn.init, "trunc_normal_", quick)  # without its cut, which takes seconds
    learner = classifier(ModelConfig(name=name, family="torchvision", image_size=size), optimizer=SGD | {"lr": 1e-6})
    learner.phases = plan_phases(learner.network, FinetuneConfig(), 1, None)
    images = samples([0, 1, 0], 1, size), samples([0, 1], 2, size)
    trained(tmp_path, learner, batch_size=2, max_epochs=1, images=images)
    assert learner.trainer.global_step == 1


class KilledError(Exception):
    """Ends a process that trains."""


class Rates(pl.Callback):
    """The learning rate that each epoch trains at; training may be killed at the beginning of one of them."""

    def __init__(self, killed_in: int | None = None) -> None:
        self.rates: list[float] = []
        self.killed_in = killed_in

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.current_epoch == self.killed_in:
            raise KilledError
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def scheduled(name: str, epochs: int) -> Classifier:
    target = "raylight.training.schedules" if name == "WarmupCosine" else "torch.optim.lr_scheduler"
    lengths = {"CosineAnnealingLR": {"T_max": epochs}, "WarmupCosine": {"warmup_epochs": 2, "epochs": epochs}}
    learner = classifier(phases=(Phase(0, epochs, 0, 0, None, 1.0),))
    node = {"_target_": f"{target}.{name}", **lengths.get(name, {"step_size": 1, "gamma": 0.5})}
    learner.optimization = Optimization(SGD, node, per_phase=False)
    return learner


def half_cosine(share: float) -> float:
    return 0.05 * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize(
    ("name", "rates", "equal"),
    [  # the first three epochs of a warm-up of two are the same, however many follow
        ("StepLR", [0.05, 0.025, 0.0125, 0.00625, 0.003125], True),
        ("CosineAnnealingLR", [half_cosine(epoch / 5) for epoch in range(5)], False),
        ("WarmupCosine", [0.05 / 3, 0.1 / 3, 0.05, half_cosine(1 / 3), half_cosine(2 / 3)], True),
    ],
)
def test_more_epochs_have_the_rates_of_a_training_that_had_them_from_the_start(
    name: str, rates: list[float], equal: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    whole, stopped, shorter, more = tmp_path / "whole", tmp_path / "stopped", tmp_path / "shorter", Rates()
    trained(whole, scheduled(name, 5), seen := Rates())
    assert seen.rates == pytest.approx(rates)
    assert [row["learning_rate"] for row in history(whole)] == pytest.approx(rates, abs=1e-6)
    with pytest.raises(KilledError):
        trained(stopped, scheduled(name, 5), Rates(killed_in=3))
    assert checkpoint(stopped, "last.ckpt")["epoch"] == 2
    trained(stopped, scheduled(name, 5), resume_from=stopped / "run/checkpoints/last.ckpt")
    assert same_weights(stopped, whole)
    assert "Not the same" not in caplog.text
    trained(shorter, scheduled(name, 3), max_epochs=3)
    trained(shorter, scheduled(name, 5), more, resume_from=shorter / "run/checkpoints/last.ckpt")
    assert more.rates == pytest.approx(rates[3:])
    assert same_weights(shorter, whole) == equal
    assert ("Not the same as a run of 5 epochs from the start" in caplog.text) != equal


def same_weights(folder: Path, other: Path) -> bool:
    states = [checkpoint(place, "last.ckpt")["state_dict"] for place in (folder, other)]
    return all(torch.equal(value, states[1][name]) for name, value in states[0].items())


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 10.0])])
def test_an_epochs_losses_and_metrics_are_those_of_all_its_images(weights: torch.Tensor | None, tmp_path: Path) -> None:
    """In batches of 7, 7 and 6; at a rate of nearly 0 the network is the same for all."""
    learner = classifier(optimizer=SGD | {"lr": 1e-30}, weights=weights)
    trained(tmp_path, learner, max_epochs=1)
    (row,) = history(tmp_path)
    for split, images in (("train", TRAIN), ("val", VAL)):
        with torch.no_grad():
            logits = learner.eval()(torch.from_numpy(images.store).permute(0, 3, 1, 2))
        loss = nnf.cross_entropy(logits, torch.from_numpy(images.targets), weight=weights)
        assert row[f"{split}/loss"] == pytest.approx(float(loss), abs=2e-6)
        score = logits.softmax(1)[:, 1].numpy()
        assert row[f"{split}/auroc"] == pytest.approx(reference.roc_auc_score(images.targets, score), abs=1e-5)
        assert row[f"{split}/accuracy"] == pytest.approx((images.targets == (score > 0.5)).mean(), abs=1e-5)


TWO = (Phase(0, 2, 0, 0, 0.02, 1.0), Phase(2, 3, 0, 0, 0.003, 1.0))


class Watch(pl.Callback):
    """Which images each step of each epoch had, and how often validation ran."""

    def __init__(self) -> None:
        self.positions: list[list[list[int]]] = []
        self.validations = 0

    def on_train_epoch_start(self, *_: Any) -> None:
        self.positions.append([])

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, *_: Any) -> None:
        self.positions[-1].append(batch.positions.tolist())

    def on_validation_epoch_start(self, *_: Any) -> None:
        self.validations += 1


def test_the_history_has_each_epochs_number_phase_time_and_rate(tmp_path: Path) -> None:
    watch = Watch()
    finished = trained(tmp_path, classifier(phases=TWO), watch)
    rows = history(tmp_path)
    assert [row["epoch"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["phase"] for row in rows] == [0, 0, 1, 1, 1]
    assert [row["learning_rate"] for row in rows] == [0.02, 0.02, 0.003, 0.003, 0.003]
    assert all(0 < row["seconds"] < 60 for row in rows)
    assert sum(row["seconds"] for row in rows) < finished.seconds + 0.01
    assert watch.validations == 5
    for epoch, steps in enumerate(watch.positions):
        expected = [batch.positions.tolist() for batch in Batches(TRAIN, Batching(7), Order(1, epoch, shuffle=True))]
        assert steps == expected
    assert len({str(steps) for steps in watch.positions}) == 5
    best = min(rows, key=lambda row: row["val/loss"])
    assert (finished.best_epoch, finished.epochs, finished.monitor) == (best["epoch"], 5, "val/loss")
    assert finished.monitor_value == pytest.approx(best["val/loss"], abs=1e-6)
    assert finished.best_checkpoint == tmp_path / "run" / "checkpoints" / "best.ckpt"
    assert 0 <= finished.waiting_share <= 1


def test_a_resumed_history_is_whole_and_has_no_epoch_twice(tmp_path: Path) -> None:
    trained(tmp_path, classifier(phases=TWO), max_epochs=3)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    finished = trained(tmp_path, classifier(phases=TWO), resume_from=last)
    assert [row["epoch"] for row in history(tmp_path)] == [0, 1, 2, 3, 4]
    assert finished.epochs == 5
    whole = tmp_path / "whole"
    trained(whole, classifier(phases=TWO))
    kept = [[row["val/loss"] for row in history(folder)] for folder in (tmp_path, whole)]
    assert kept[0] == kept[1]


@pytest.mark.parametrize(("averaging", "optimizer"), [("none", SGD | {"lr": 0.3}), ("ema", RISING)])
def test_a_run_that_is_resumed_after_its_training_had_ended_is_not_trained_further(
    averaging: str, optimizer: dict[str, Any], tmp_path: Path
) -> None:
    """With the first optimizer, later epochs would find a lower loss."""
    settings: dict[str, Any] = {"patience": 2, "max_epochs": 14, "averaging": averaging}
    ended = trained(tmp_path, classifier(optimizer=optimizer), **settings)
    assert (ended.stopped_by, ended.epochs < 14) == ("trainer.patience", True)
    last, rows = tmp_path / "run" / "checkpoints" / "last.ckpt", tmp_path / "run" / "history.csv"
    before = rows.read_text()
    for _ in range(2):
        resumed = trained(tmp_path, classifier(optimizer=optimizer), resume_from=last, **settings)
        assert replace(resumed, seconds=0, waiting_share=0) == replace(ended, seconds=0, waiting_share=0)
        assert rows.read_text() == before
    more = trained(tmp_path, classifier(optimizer=optimizer), resume_from=last, **settings | {"max_epochs": 15})
    assert more.epochs > ended.epochs
    assert rows.read_text().startswith(before)


def test_patience_that_is_lifted_trains_to_the_end(tmp_path: Path) -> None:
    trained(tmp_path, classifier(optimizer=RISING), patience=1)
    last = tmp_path / "run" / "checkpoints" / "last.ckpt"
    finished = trained(tmp_path, classifier(optimizer=RISING), resume_from=last)
    assert (finished.epochs, finished.stopped_by) == (5, None)


def test_without_validation_images_the_training_loss_chooses(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    learner = classifier(optimizer=RISING)
    loaders = loaders_of(learner, val=samples([], 3))
    config = TrainerConfig(max_epochs=3, progress="off", monitor="val/accuracy", monitor_mode="max")
    logging.getLogger("raylight").propagate = True
    with caplog.at_level(logging.WARNING, "raylight"):
        run = RunDir.claim(tmp_path / "run")
        finished = fit(Training(learner, loaders, config, CPU), run, False)
    assert (finished.monitor, finished.best_epoch) == ("train/loss", 0)
    assert (
        "There are no validation images: the checkpoint is chosen by train/loss, which is optimistic."
        in caplog.messages
    )
    assert "val/loss" not in history(tmp_path)[0]


def test_a_metric_that_never_has_a_value_chooses_nothing(tmp_path: Path) -> None:
    learner = classifier()
    one_class = samples([0] * 6, 3)
    loaders = loaders_of(learner, val=one_class)
    config = TrainerConfig(max_epochs=2, progress="off", monitor="val/auroc", monitor_mode="max")
    with pytest.raises(RunError, match=r"val/auroc had no value in any epoch, .* use trainer.monitor=val/loss"):
        fit(Training(learner, loaders, config, CPU), RunDir.claim(tmp_path / "run"), False)


@pytest.mark.parametrize(("start", "warned"), [(0, False), (1, True)])
def test_a_best_epoch_before_the_average_is_warned_of(
    start: int, warned: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the loss rises, the first epoch is the best."""
    logging.getLogger("raylight").propagate = True
    with caplog.at_level(logging.WARNING, "raylight"):
        trained(tmp_path, classifier(optimizer=RISING), averaging="ema", averaging_start=start, max_epochs=3)
    said = "The best epoch by val/loss is before trainer.averaging_start: its weights aren't averaged."
    assert (said in caplog.messages) == warned


@pytest.mark.parametrize(("progress", "level"), [("lines", logging.INFO), ("off", logging.DEBUG)])
def test_an_epochs_line_is_told_unless_it_is_off(
    progress: str, level: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    logging.getLogger("raylight").propagate = True
    with caplog.at_level(logging.DEBUG, "raylight"):
        trained(tmp_path, classifier(), max_epochs=2, progress=progress)
    lines = [record for record in caplog.records if record.message.startswith("epoch ")]
    assert [record.levelno for record in lines] == [level, level]
    (row, _) = history(tmp_path)
    assert lines[0].message.startswith(f"epoch 1/2  train/loss {row['train/loss']:.3f} val/loss {row['val/loss']:.3f} ")


def test_an_epochs_line_is_aligned_and_leaves_out_what_is_not_known() -> None:
    row = {"epoch": 8, "seconds": 12.34, "val/loss": 0.5004, "val/f1": 0.1, "val/auroc": 0.98765}
    assert _line(row, 10) == "epoch  9/10  val/loss 0.500 val/auroc 0.988  (12.3 s)"
    assert _line(row | {"epoch": 9}, 10).startswith("epoch 10/10  val/loss")
    assert _line({"epoch": 0, "seconds": 0.06, "train/accuracy": 1.0, "train/loss": 0.25}, 5) == (
        "epoch 1/5  train/loss 0.250 train/accuracy 1.000  (0.1 s)"
    )


def test_weights_are_computed_in_the_precision_that_was_measured(tmp_path: Path) -> None:
    """bf16 keeps eight bits: the losses are near those of fp32, and not the same."""
    losses = []
    for precision in ("32", "bf16"):
        learner = classifier(optimizer=SGD | {"lr": 1e-30})
        loaders = loaders_of(learner)
        config = TrainerConfig(max_epochs=1, progress="off")
        run = RunDir.claim(tmp_path / precision)
        fit(Training(learner, loaders, config, replace(CPU, precision=precision)), run, False)
        names, values = (line.split(",") for line in (run / "history.csv").read_text().splitlines())
        losses.append(float(dict(zip(names, values, strict=True))["val/loss"]))
    assert losses[0] != losses[1]
    assert np.isclose(*losses, rtol=0.05)


def test_an_epoch_that_is_trained_again_has_one_row(tmp_path: Path) -> None:
    learner = classifier()
    trained(tmp_path, learner, max_epochs=2)
    again = History(RunDir(tmp_path / "run"), lines=False)
    again.load_state_dict({"rows": [{"epoch": epoch, "seconds": 1.0} for epoch in range(4)]})
    again.on_train_epoch_start(learner.trainer, learner)
    again.on_train_epoch_end(learner.trainer, learner)  # of epoch 2, after two
    assert [row["epoch"] for row in again.rows] == [0, 1, 2]
    assert again.rows[-1]["seconds"] < 1
    assert [row["epoch"] for row in again.state_dict()["rows"]] == [0, 1, 2]
