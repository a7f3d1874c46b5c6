"""``raylight audit RUN``: what a run's network relies on, from the run's folder and its images."""

import sys
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from raylight.auditing.shortcuts import FILE, IMAGES, TrainingImages, check_shortcuts, shortcut_lines
from raylight.data.decode.engines import decode_files
from raylight.data.index import Index
from raylight.errors import DataError
from raylight.evaluation.bootstrap import sampled_positions
from raylight.evaluation.predictions import Predictions
from raylight.report.run_page import write_report
from raylight.runs.looks import look_notice
from raylight.runs.run_dir import RunDir
from raylight.serving.predictor import Predictor, UnusableRunError, read_index
from raylight.storage.atomic import check_output


def audit_run(run: Path, out: Path | None) -> int:
    """Check a run's network for shortcuts; print the result, write ``shortcuts.json`` and rewrite the report.

    Args:
        run: a finished run's folder.
        out: folder for ``shortcuts.json``; None writes into the run's, and rewrites its ``report.html``.

    Returns:
        0 if the network needs the content of the images, 1 if it may not.

    Raises:
        UnusableRunError: the run hasn't finished or has no test images.
        DataError: its images are missing or have changed.
        ConfigError: the run's folder can't be written, and ``out`` isn't given.
    """
    if out is None:
        check_output("RUN", run, is_folder=True, remedy="name a folder for the result: --out FOLDER")
    predictor = Predictor.open(run)
    index = read_index(predictor.run)
    test, train = (_sample(index.in_split(split)) for split in ("test", "train"))
    if not len(test) or not len(train):
        raise UnusableRunError(f"{run} has no {'test' if len(train) else 'training'} images.")
    pixels = _pixels(predictor, test)
    judged = Predictions(
        paths=list(test.column("path")),
        splits=["test"] * len(test),
        labels=test.targets(),
        probabilities=predictor.probabilities(pixels),
        class_names=predictor.class_names,
        positive_class=predictor.positive_class,
        groups=list(test.column("group")),
    )

    def predict(images: UInt8[np.ndarray, "image height width 3"]) -> Int64[np.ndarray, " image"]:
        return predictor.decide(predictor.probabilities(images))

    found = check_shortcuts(
        predict,
        pixels,
        judged.labelled(predictor.threshold),
        TrainingImages(_pixels(predictor, train), train.targets()),
        predictor.network,
        predictor.preprocessing,
    )
    note = look_notice(predictor.run, "audit")
    if out is None:
        path = predictor.run.write_json(FILE, found.as_json())
        if predictor.config.report.enabled:
            write_report(predictor.run, predictor.network)
    else:
        out.mkdir(parents=True, exist_ok=True)
        path = RunDir(out).write_json(FILE, found.as_json())
    for line in (*shortcut_lines(found), note, str(path)):
        sys.stdout.write(f"{line}\n")
    return int(any(check.suspicious for check in found.checks))


def _sample(part: Index) -> Index:
    return part.select(sampled_positions(len(part), IMAGES))


def _pixels(predictor: Predictor, part: Index) -> UInt8[np.ndarray, "image height width 3"]:
    """Decode images as for the network.

    Raises:
        DataError: a file is missing or has changed.
    """
    paths, digests = list(part.column("path")), list(part.column("sha256"))
    files, spec = [part.root / path for path in paths], predictor.preprocessing.decode_spec
    found = []
    for block in decode_files(files, spec, digests=digests):
        bad = [(paths[i], why) for i, why in zip(block.positions, block.reasons, strict=True) if why]
        if bad:
            raise DataError(
                f"The run's images in {part.root} are missing or have changed, such as {bad[0][0]}: {bad[0][1]}. An audit of "
                "a run needs the images that it was trained on."
            )
        found.append(np.array(block.pixels))
    return np.concatenate(found)
