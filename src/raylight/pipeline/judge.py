"""Evaluating the chosen checkpoint on test, once, and writing the results."""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from safetensors.torch import save

from raylight.auditing.shortcuts import FILE, IMAGES, TrainingImages, check_shortcuts, shortcut_lines
from raylight.config.schema import RunConfig
from raylight.cpu.engine import InferenceEngine
from raylight.data.samples import Samples
from raylight.data.splits.leakage import shared_with_training
from raylight.evaluation.bootstrap import sampled_positions
from raylight.evaluation.calibration import apply_temperature, calibrated
from raylight.evaluation.intervals import proportion
from raylight.evaluation.predictions import Predictions, decide, group_numbers, write_csv
from raylight.machine import peak_memory_gb
from raylight.models.build import class_probabilities
from raylight.models.familiarity import FILE as FAMILIARITY
from raylight.models.familiarity import MAX_KEPT, fit, min_validation_images, nearest_images, unit_vectors
from raylight.pipeline.costs import Costs
from raylight.pipeline.images import Images
from raylight.pipeline.learner import Learner
from raylight.report.dashboard import show_result
from raylight.report.facts import RunFacts
from raylight.report.images import NEIGHBOURS_FILE, NEIGHBOURS_SHOWN, Gallery
from raylight.report.results import HELD_OUT_FILE, Circumstances, Results, Selection, write_results
from raylight.report.run_page import write_pages
from raylight.report.subgroups import write_subgroups
from raylight.runs.run_dir import RunDir, Status
from raylight.runs.tracking import Tracker
from raylight.storage.atomic import write_atomically
from raylight.training.callbacks.checkpoints import LAST
from raylight.training.features import FeatureStore
from raylight.training.messages import FinishedTraining
from raylight.training.phases import phase_at

log = logging.getLogger("raylight")

BLOCK = 256
"""Images whose features are in memory at once."""


@dataclass(frozen=True)
class Record:
    """Where a run is recorded.

    Attributes:
        run: its folder.
        status: gets the current stage.
        costs: seconds of the stages so far.
        tracker: gets the result.
    """

    run: RunDir
    status: Status
    costs: Costs
    tracker: Tracker


def judge(config: RunConfig, record: Record, images: Images, learner: Learner, finished: FinishedTraining) -> None:
    """Load the chosen checkpoint, write the model, predict, measure, report.

    Args:
        config: the run's settings.
        record: its folder gets ``model.safetensors``, ``metrics.json``, ``predictions.csv``, plots and pages.
        images: validation and test are predicted.
        learner: its network gets the chosen checkpoint's weights.
        finished: proof that training has ended.
    """
    run, status, costs = record.run, record.status, record.costs
    status.enter("testing")
    if config.data.fold is not None:
        write_csv(_predict_held_out(images, learner, finished), run / HELD_OUT_FILE)
    learner.classifier.load_state_dict(torch.load(finished.best_checkpoint, weights_only=True)["state_dict"])
    _write_model(run, learner)
    predictions = predict_run(images, learner, finished)
    costs.lap("testing")

    status.enter("reporting")
    selection = Selection(
        finished.monitor, finished.monitor_value, finished.best_epoch, finished.epochs, finished.stopped_by
    )
    cost = {
        **costs.as_json(),
        "waiting_share": finished.waiting_share,
        "images": len(images.index),
        "peak_memory_gb": peak_memory_gb(),
    }
    unknown = (
        fit_familiarity(run, config.decision.unknown, images, learner, finished) if config.decision.unknown else None
    )
    shared = shared_with_training(images.index, config.data.group_duplicates)
    circumstances = Circumstances(cost, shared, images.index.split_warnings, unknown)
    results = write_results(config, run, predictions, images.preprocessing.to_dict(), selection, circumstances)
    gallery = Gallery(RunFacts(run), learner.network)
    if (
        config.report.neighbours
        and config.report.enabled
        and config.data.feed == "cache"
        and learner.network.head_start
    ):
        _write_neighbours(gallery, images, learner, finished)
    if config.report.shortcuts:
        status.enter("looking for shortcuts")
        for line in find_shortcuts(run, images, learner, finished, predictions, results):
            log.info("%s", line)
    of_subgroups = write_subgroups(gallery.facts)
    if config.report.enabled:
        write_pages(gallery)
    costs.lap("reporting")
    show_result(record.tracker, gallery, results, selection, finished.best_checkpoint)
    costs.lap("dashboard")
    for line in (*results.lines, *of_subgroups):
        log.info("%s", line)


def predict_run(images: Images, learner: Learner, finished: FinishedTraining) -> Predictions:
    """Predict the validation and test images with the chosen checkpoint."""
    return _predict(images, learner, finished.best_epoch, {"val": images.of("val"), "test": images.of_test(finished)})


def _predict_held_out(images: Images, learner: Learner, finished: FinishedTraining) -> Predictions:
    """Predict the held-out fold with the network of the last epoch, which wasn't chosen by any result."""
    last = torch.load(finished.best_checkpoint.with_name(LAST), weights_only=True)
    learner.classifier.load_state_dict(last["state_dict"])
    return _predict(images, learner, int(last["epoch"]), {"val": images.of("val")})


def _predict(images: Images, learner: Learner, epoch: int, parts: Mapping[str, Samples]) -> Predictions:
    """Predict with the network as it is after an epoch, through the inference engine."""
    stage = phase_at(learner.phases, epoch).input_stage
    engine = _engine(images, learner, stage)

    def outputs(samples: Samples) -> Float[np.ndarray, "image output"]:
        inputs = learner.store.features(samples, stage, None) if stage else samples
        logits = np.empty((len(inputs), *engine.output_shape(inputs.store.shape[1:])), np.float32)
        for positions, store, rows in inputs.blocks(np.arange(len(inputs))):
            engine.run_into(logits, positions, store, rows)
        return logits

    index = images.index
    tables = {split: index.in_split(split) for split in parts}
    logits = [outputs(samples) for samples in parts.values() if len(samples)]
    return Predictions(
        paths=[path for table in tables.values() for path in table.column("path")],
        splits=[split for split, table in tables.items() for _ in range(len(table))],
        labels=np.concatenate([table.targets() for table in tables.values()]),
        probabilities=class_probabilities(np.concatenate(logits)),
        class_names=index.class_names,
        positive_class=index.positive_class,
        groups=[group for table in tables.values() for group in table.column("group")],
    )


def fit_familiarity(
    run: RunDir, refused: float, images: Images, learner: Learner, finished: FinishedTraining
) -> dict[str, Any]:
    """Fit the detector of unfamiliar images, write ``familiarity.safetensors``, and apply it to the test images."""
    features, learnt = _head_inputs(images, learner, finished), _head_inputs(images, learner, finished, learner.learnt)
    train, val, test = images.of("train"), images.of("val"), images.of_test(finished)
    known, held_out = (
        np.concatenate([unit_vectors(block) for block in blocks])
        for blocks in (learnt(train, sampled_positions(len(train), MAX_KEPT)), features(val, np.arange(len(val))))
    )
    found = fit(known, held_out, refused)
    result = {"allowed": refused, "val_n": len(held_out), "val_needed": min_validation_images(refused)}
    if found is None:
        log.warning(
            "decision.unknown=%g needs %d validation images, there are %d: no image is refused as unlike the others; raise "
            "data.val_fraction or decision.unknown.",
            *(refused, min_validation_images(refused), len(held_out)),
        )
        return result
    found.write(run / FAMILIARITY)
    refused_test = ~np.concatenate([found.familiar(block) for block in features(test, np.arange(len(test)))])
    low, high = proportion(refused_test, group_numbers(images.index.in_split("test").column("group")))
    result |= {"limit": found.limit, "neighbours": found.neighbours}
    return result | {
        "test_refused": {"value": float(refused_test.mean()), "low": low, "high": high, "n": len(refused_test)}
    }


def _head_inputs(
    images: Images, learner: Learner, finished: FinishedTraining, source: FeatureStore | None = None
) -> Callable[[Samples, Int64[np.ndarray, " chosen"]], Iterator[Float[np.ndarray, "block ..."]]]:
    """A function that gives the inputs of the chosen network's head for some samples, in blocks that fit into memory.

    Features come from ``learner.store``, or from another one.
    """
    stage = phase_at(learner.phases, finished.best_epoch).input_stage
    head = learner.network.head_start
    engine = None if stage == head else _engine(images, learner, stage, head)

    def of(samples: Samples, chosen: Int64[np.ndarray, " chosen"]) -> Iterator[Float[np.ndarray, "block ..."]]:
        inputs = (source or learner.store).features(samples, stage, None) if stage else samples
        for _, store, rows in inputs.blocks(chosen, BLOCK):
            yield store[rows] if engine is None else engine(store[rows])

    return of


def _write_neighbours(gallery: Gallery, images: Images, learner: Learner, finished: FinishedTraining) -> None:
    """Write ``neighbours.json``: the nearest training images, by features, of each error that the report shows."""
    judged, errors = gallery.facts.test, gallery.chosen["errors"]
    if not len(errors):
        return
    features, learnt = _head_inputs(images, learner, finished), _head_inputs(images, learner, finished, learner.learnt)
    test, train = images.of_test(finished), images.index.in_split("train")
    position_of = {path: position for position, path in enumerate(images.index.in_split("test").column("path"))}
    chosen = np.array([position_of[judged.paths[i]] for i in errors], np.int64)
    paths, labels = train.column("path"), train.column("label")
    wanted = np.concatenate(list(features(test, chosen)))
    near = nearest_images(learnt(images.of("train"), np.arange(len(train))), wanted, NEIGHBOURS_SHOWN)
    gallery.facts.run.write_json(
        NEIGHBOURS_FILE,
        {judged.paths[i]: [[paths[k], labels[k]] for k in row] for i, row in zip(errors, near, strict=True)},
    )


def find_shortcuts(
    run: RunDir,
    images: Images,
    learner: Learner,
    finished: FinishedTraining,
    predictions: Predictions,
    results: Results,
) -> list[str]:
    """Check the chosen network for shortcuts: writes ``shortcuts.json``; returns lines for the log."""
    engine = _engine(images, learner, 0)
    judged = calibrated(predictions.subset("test"), results.temperature)
    threshold = results.decision.threshold if results.decision else None

    def predict(pixels: UInt8[np.ndarray, "image height width 3"]) -> Int64[np.ndarray, " image"]:
        probabilities = apply_temperature(class_probabilities(engine(pixels)), results.temperature)
        return decide(probabilities, judged.positive, threshold)

    test, train_images = images.of_test(finished), images.of("train")
    chosen, learnt = sampled_positions(len(test), IMAGES), sampled_positions(len(train_images), IMAGES)
    found = check_shortcuts(
        predict,
        _pixels(test, chosen),
        judged.where(np.isin(np.arange(len(judged)), chosen)).labelled(threshold),
        TrainingImages(_pixels(train_images, learnt), train_images.targets[learnt]),
        learner.network,
        images.preprocessing,
    )
    run.write_json(FILE, found.as_json())
    return shortcut_lines(found)


def _pixels(samples: Samples, chosen: Int64[np.ndarray, " chosen"]) -> UInt8[np.ndarray, "chosen height width 3"]:
    return np.concatenate([store[rows] for _, store, rows in samples.blocks(chosen)])


def _engine(images: Images, learner: Learner, start: int, stop: int | None = None) -> InferenceEngine:
    settings = learner.settings
    return InferenceEngine(
        learner.network,
        start,
        stop,
        images.preprocessing,
        precision=settings.inference_precision,
        threads=settings.threads,
    )


def _write_model(run: RunDir, learner: Learner) -> None:
    state = {name: value.detach().clone().contiguous() for name, value in learner.network.state_dict().items()}
    write_atomically(run / "model.safetensors", save(state))
