"""A run's network in int8: ranges measured on training images, and a certificate on validation images.

Both are kept in the run folder (``int8.json``) and hold for the weights that they were made with.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from raylight.cpu.engine import CALIBRATION_IMAGES, InferenceEngine, Int8
from raylight.cpu.quantising import int8_supported
from raylight.data.decode.engines import decode_files
from raylight.data.index import Index
from raylight.machine import usable_cpus
from raylight.serving.predictor import Predictor, UnusableRunError, read_index
from raylight.serving.versions.certificate import RefusedVersionError, certified, digests_of, kept, paths_of
from raylight.storage.digests import file_sha256

FILE = "int8.json"

WAY_OUT = "leave out --precision int8"


def open_int8(run: Path) -> Predictor:
    """Open a run in int8; makes and certifies it first, if that hasn't been done for these weights.

    Raises:
        RefusedVersionError: the processor or the network can't, or the loss isn't excluded.
        UnusableRunError: the run can't be used, or its training and validation images are gone.
    """
    if not int8_supported():
        raise RefusedVersionError(
            "This processor has no int8 instructions (VNNI), so int8 would be slower; leave out --precision int8."
        )
    predictor = Predictor.open(run)
    circumstances = {"weights": file_sha256(predictor.run / "model.safetensors")}
    if (before := kept(predictor.run, FILE, circumstances, _ranges)) is not None:
        return _in_int8(predictor, before)
    train, val = calibration_index(predictor)
    blocks = decode_files(paths_of(train), predictor.preprocessing.decode_spec, digests=digests_of(train))
    pixels = [block.pixels for block in blocks if len(block.pixels)]
    if not pixels:
        raise UnusableRunError(_gone(train))
    precision = Int8.measured_on(predictor.network, predictor.preprocessing, np.concatenate(pixels))
    if not precision.ranges:
        raise RefusedVersionError(
            f"{predictor.config.model.name} doesn't begin with a convolution that int8 has; leave out --precision int8."
        )
    changed = _in_int8(predictor, precision)
    found = certified(predictor, changed, val, "int8", WAY_OUT)
    facts = {**circumstances, "certificate": found.as_json(), "ranges": dict(precision.ranges)}
    predictor.run.write_json(FILE, facts)
    return changed


def calibration_index(predictor: Predictor) -> tuple[Index, Index]:
    """Some of the run's training images, evenly over their index, and all its validation images.

    Raises:
        UnusableRunError: they aren't where they were.
    """
    index = read_index(predictor.run)
    train, val = index.in_split("train"), index.in_split("val")
    if not index.root.is_dir() or not len(train) or not len(val):
        raise UnusableRunError(_gone(index))
    return train.spread(CALIBRATION_IMAGES), val


def _gone(index: Index) -> str:
    return (
        f"int8 is measured on the run's training and validation images, which are no longer in {index.root}; put them back, or "
        "leave out --precision int8."
    )


def _in_int8(predictor: Predictor, precision: Int8) -> Predictor:
    engine = InferenceEngine(
        predictor.network, 0, None, predictor.preprocessing, precision=precision, threads=usable_cpus()
    )
    return replace(predictor, precision=precision, engine=engine)


def _ranges(facts: Mapping[str, Any]) -> Int8:
    return Int8({name: (float(low), float(high)) for name, (low, high) in facts["ranges"].items()})
