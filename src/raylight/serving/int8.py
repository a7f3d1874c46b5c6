"""A run's network in int8: ranges measured on training images, and a certificate on validation images.

Both are kept in the run folder (``int8.json``) and hold for the weights that they were made with. Without a certificate there
is no int8: a paired test on the validation images must exclude a loss of accuracy above one percentage point.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from raylight.cpu.engine import CALIBRATION_IMAGES, InferenceEngine, Int8
from raylight.cpu.quantising import int8_supported
from raylight.data.decode.engines import decode_files
from raylight.data.index import Index
from raylight.errors import ConfigError, RaylightError, RunError, did_you_mean
from raylight.evaluation.differences.non_inferiority import NonInferiority, non_inferiority, refusal
from raylight.evaluation.predictions import group_numbers
from raylight.machine import usable_cpus
from raylight.runs.run_dir import RunDir
from raylight.serving.predictor import Predictor, UnusableRunError, read_index
from raylight.storage.digests import file_sha256
from raylight.storage.remote import AnyPath

FILE = "int8.json"

PRECISIONS = ("fp32", "bf16")

WAY_OUT = "leave out --precision int8"


class NoInt8Error(RaylightError):
    """int8 can't be used for a run: it isn't faster, or its loss of accuracy isn't excluded."""


def open_predictor(run: Path, precision: str | None) -> Predictor:
    """Open a run in a precision.

    Args:
        run: its folder.
        precision: ``fp32``, ``bf16``, ``int8``; ``None`` takes the run's own.

    Raises:
        ConfigError: there is no such precision.
        NoInt8Error: int8 can't be used for the run.
        UnusableRunError: the run can't be used.
    """
    if precision == "int8":
        return open_int8(run)
    if precision not in (None, *PRECISIONS):
        hint = did_you_mean(precision, (*PRECISIONS, "int8"))
        raise ConfigError([f"--precision: there is no {precision!r}{hint}; it is {', '.join(PRECISIONS)} or int8"])
    return Predictor.open(run, precision)


def open_int8(run: Path) -> Predictor:
    """Open a run in int8; makes and certifies it first, if that hasn't been done for these weights.

    Raises:
        NoInt8Error: the processor or the network can't, or the loss isn't excluded.
        UnusableRunError: the run can't be used, or its training and validation images are gone.
    """
    if not int8_supported():
        raise NoInt8Error(
            "This processor has no int8 instructions (VNNI), so int8 would be slower; leave out --precision int8."
        )
    predictor = Predictor.open(run)
    kept = _kept(predictor.run)
    if kept is not None:
        return _in_int8(predictor, kept)
    train, val = calibration_index(predictor)
    blocks = decode_files(_paths(train), predictor.preprocessing.decode_spec, digests=_digests(train))
    pixels = [block.pixels for block in blocks if len(block.pixels)]
    if not pixels:
        raise UnusableRunError(_gone(train))
    precision = Int8.measured_on(predictor.network, predictor.preprocessing, np.concatenate(pixels))
    if not precision.ranges:
        raise NoInt8Error(
            f"{predictor.config.model.name} doesn't begin with a convolution that int8 has; leave out --precision int8."
        )
    changed = _in_int8(predictor, precision)
    found = certified(predictor, changed, val)
    facts = {
        "weights": file_sha256(predictor.run / "model.safetensors"),
        "certificate": found.as_json(),
        "ranges": dict(precision.ranges),
    }
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


def certified(model: Predictor, version: Predictor, val: Index) -> NonInferiority:
    """Test on validation images whether a version of a model loses at most a percentage point.

    Raises:
        NoInt8Error: that isn't shown; says the loss, its bound, and how many images would show it.
        UnusableRunError: no validation image can be read.
    """
    labels, groups = val.targets(), val.column("group")
    positions, right = _right(model, val, labels)
    _, version_right = _right(version, val, labels)
    if not len(positions):
        raise UnusableRunError(f"None of the run's validation images can be read in {val.root}.")
    found = non_inferiority(right, version_right, group_numbers(groups[i] for i in positions))
    if not found.shown:
        raise NoInt8Error(refusal(found, "int8", WAY_OUT))
    return found


def _right(
    predictor: Predictor, val: Index, labels: Int64[np.ndarray, " image"]
) -> tuple[Int64[np.ndarray, " good"], Bool[np.ndarray, " good"]]:
    """The positions of the images that can be read, and whether each is classified correctly."""
    positions, right = [np.empty(0, np.int64)], [np.empty(0, bool)]
    for block in predictor.predict_files(_paths(val), _digests(val)):
        good = block.positions[block.ok]
        positions.append(good)
        right.append(predictor.decide(block.probabilities) == labels[good])
    return np.concatenate(positions), np.concatenate(right)


def _paths(index: Index) -> list[AnyPath]:
    return [index.root / str(path) for path in index.column("path")]


def _digests(index: Index) -> list[str]:
    return [str(digest) for digest in index.column("sha256")]


def _in_int8(predictor: Predictor, precision: Int8) -> Predictor:
    engine = InferenceEngine(
        predictor.network, 0, None, predictor.preprocessing, precision=precision, threads=usable_cpus()
    )
    return replace(predictor, precision=precision, engine=engine)


def _kept(run: RunDir) -> Int8 | None:
    """What was measured and certified before, if it holds for the run's weights."""
    if not (run / FILE).is_file():
        return None
    try:
        facts = run.read_json(FILE)
        if facts["weights"] != file_sha256(run / "model.safetensors") or not facts["certificate"]["shown"]:
            return None
        return Int8({name: (float(low), float(high)) for name, (low, high) in facts["ranges"].items()})
    except RunError as error:
        raise UnusableRunError(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableRunError(
            f"{run / FILE} is damaged ({type(error).__name__}: {error}); delete it, and it is made again."
        ) from error
