"""An ONNX file in int8: quantised on training images by ONNX Runtime, and certified on validation images.

As in ``serving.versions``, a paired test must exclude a loss of accuracy above one percentage point; here of the file itself.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from raylight.data.decode.blocks import read_checked
from raylight.data.decode.image import decode_image
from raylight.data.index import Index
from raylight.errors import BadImageError
from raylight.evaluation.differences.non_inferiority import non_inferiority, refusal
from raylight.evaluation.predictions import group_numbers
from raylight.serving.exports.check_images import original_image
from raylight.serving.exports.formats import Runtime, open_onnx
from raylight.serving.predictor import Predictor, UnusableRunError
from raylight.serving.versions.certificate import RefusedVersionError
from raylight.serving.versions.int8 import WAY_OUT, calibration_index

QUANTISED = ("Conv", "Relu", "Clip", "Add", "MaxPool")
"""ONNX operators that are computed in int8, from the first convolution to the last."""

Image = UInt8[np.ndarray, "height width 3"]


@dataclass(frozen=True)
class ImageReader:
    """Reads images as a file takes them.

    Attributes:
        predictor: the run.
        prepared: whether the file takes images that are resized already.
    """

    predictor: Predictor
    prepared: bool

    def read(self, index: Index) -> Iterator[tuple[int, Image, Image]]:
        """The readable images: position in the index, what the file takes, what the run's network takes."""
        spec = self.predictor.preprocessing.decode_spec
        for position, (path, digest) in enumerate(zip(index.column("path"), index.column("sha256"), strict=True)):
            try:
                data = read_checked(str(index.root / str(path)), str(digest))
                decoded = decode_image(data, spec)
                yield position, decoded if self.prepared else original_image(data), decoded
            except (BadImageError, OSError):
                continue  # the others are enough


def to_int8(path: Path, predictor: Predictor, prepared: bool) -> str:
    """Convert an ONNX file to int8 and certify it; its metadata gets the certificate.

    Args:
        path: the file in float32, replaced.
        predictor: the run in float32.
        prepared: whether the file takes images that are resized already.

    Returns:
        What was found, in words.

    Raises:
        RefusedVersionError: the loss isn't excluded.
        UnusableRunError: the training or validation images are gone.
    """
    import onnx

    train, val = calibration_index(predictor)
    reader = ImageReader(predictor, prepared)
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}  # the quantiser adds some of its own
    _quantise(path, reader, train)
    certificate = _certificate(open_onnx(path), reader, val)
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {**facts, "precision": json.dumps("int8"), "int8": json.dumps(certificate)})
    onnx.save_model(model, str(path))
    return (
        f"int8: on {certificate['n']:,} validation images its accuracy differs by {100 * certificate['difference']:+.1f} "
        f"points, by {100 * certificate['low']:+.1f} or more with 95 % confidence"
    )


def _quantise(path: Path, reader: ImageReader, train: Index) -> None:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = reader.read(train)

        def get_next(self) -> dict[str, Any] | None:
            found = next(self.images, None)
            return None if found is None else {"images": found[1][None]}

    prepared = path.with_suffix(".prepared.onnx")
    try:
        quant_pre_process(path, prepared, skip_symbolic_shape=True)
        nodes = onnx.load(prepared).graph.node
        convolutions = [place for place, node in enumerate(nodes) if node.op_type == "Conv"]
        if not convolutions:
            raise RefusedVersionError("The network has no convolution to compute in int8; leave out --precision int8.")
        within = range(convolutions[0], convolutions[-1] + 2)  # the last one's activation, too
        chosen = [node.name for place, node in enumerate(nodes) if place in within and node.op_type in QUANTISED]
        quantize_static(
            prepared,
            path,
            Images(),
            quant_format=QuantFormat.QDQ,
            nodes_to_quantize=chosen,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        prepared.unlink(missing_ok=True)


def _certificate(opened: Runtime, reader: ImageReader, val: Index) -> dict[str, Any]:
    predictor, labels, groups = reader.predictor, val.targets(), val.column("group")
    positions, right, right_in_int8 = list[int](), list[bool](), list[bool]()
    for position, taken, decoded in reader.read(val):
        positions.append(position)
        for result, given in (
            (right, predictor.probabilities(decoded[None])),
            (right_in_int8, opened(taken[None])["probabilities"]),
        ):
            result.append(bool(predictor.decide(given)[0] == labels[position]))
    if not positions:
        raise UnusableRunError(f"None of the run's validation images can be read in {val.root}.")
    found = non_inferiority(
        np.array(right), np.array(right_in_int8), group_numbers(groups[position] for position in positions)
    )
    if not found.shown:
        raise RefusedVersionError(refusal(found, "int8", WAY_OUT))
    return found.as_json()
