"""Whether a faster version of a run's network may be used: a paired test on the run's validation images.

It must exclude a loss of accuracy above one percentage point (``evaluation.differences.non_inferiority``).
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Int64

from raylight.data.index import Index
from raylight.errors import RaylightError, RunError
from raylight.evaluation.differences.non_inferiority import NonInferiority, non_inferiority, refusal
from raylight.evaluation.predictions import group_numbers
from raylight.runs.run_dir import RunDir
from raylight.serving.predictor import Predictor, UnusableRunError
from raylight.storage.remote import AnyPath

Read = TypeVar("Read")


class RefusedVersionError(RaylightError):
    """A version can't be used for a run: it isn't faster, or its loss of accuracy isn't excluded."""


def kept(
    run: RunDir, name: str, circumstances: Mapping[str, str], read: Callable[[Mapping[str, Any]], Read]
) -> Read | None:
    """What a file with a certificate says, if the certificate was made under the same circumstances and shows enough.

    Args:
        run: its folder.
        name: of the file.
        circumstances: facts that the file must agree with, the weights' digest among them.
        read: takes from its facts what is needed.

    Returns:
        What ``read`` takes; ``None`` without such a certificate.

    Raises:
        UnusableRunError: the file is damaged.
    """
    if not (run / name).is_file():
        return None
    try:
        facts = run.read_json(name)
        if any(facts[key] != value for key, value in circumstances.items()) or not facts["certificate"]["shown"]:
            return None
        return read(facts)
    except RunError as error:
        raise UnusableRunError(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise UnusableRunError(
            f"{run / name} is damaged ({type(error).__name__}: {error}); delete it, and it is made again."
        ) from error


def certified(model: Predictor, version: Predictor, val: Index, what: str, way_out: str) -> NonInferiority:
    """Test on validation images whether a version of a model loses at most a percentage point.

    Args:
        model: as the run computes.
        version: the same network, computed otherwise.
        val: the run's validation images.
        what: the version, such as ``int8``.
        way_out: what a user can do instead.

    Raises:
        RefusedVersionError: that isn't shown; says the loss, its bound, and how many images would show it.
        UnusableRunError: no validation image can be read.
    """
    labels, groups = val.targets(), val.column("group")
    positions, right = _right(model, val, labels)
    _, version_right = _right(version, val, labels)
    if not len(positions):
        raise UnusableRunError(f"None of the run's validation images can be read in {val.root}.")
    found = non_inferiority(right, version_right, group_numbers(groups[i] for i in positions))
    if not found.shown:
        raise RefusedVersionError(refusal(found, what, way_out))
    return found


def _right(
    predictor: Predictor, val: Index, labels: Int64[np.ndarray, " image"]
) -> tuple[Int64[np.ndarray, " good"], Bool[np.ndarray, " good"]]:
    """The positions of the images that can be read, and whether each is classified correctly."""
    positions, right = [np.empty(0, np.int64)], [np.empty(0, bool)]
    for block in predictor.predict_files(paths_of(val), digests_of(val)):
        good = block.positions[block.ok]
        positions.append(good)
        right.append(predictor.decide(block.probabilities) == labels[good])
    return np.concatenate(positions), np.concatenate(right)


def paths_of(index: Index) -> list[AnyPath]:
    """The files of an index, where it found them."""
    return [index.root / str(path) for path in index.column("path")]


def digests_of(index: Index) -> list[str]:
    """The SHA-256 that each file of an index had."""
    return [str(digest) for digest in index.column("sha256")]
