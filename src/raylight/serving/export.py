"""``raylight export``: one file that takes pixels and gives calibrated probabilities, for other programs.

Normalisation, network, softmax and temperature are inside; decoding and resizing stay outside, since no format supports
them: the file's metadata describes them. An export is done once the file's own runtime reproduces the run's probabilities.
"""

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from raylight.config.rules.shapes import height_width
from raylight.errors import ConfigError, RaylightError, did_you_mean, first_line
from raylight.installation import install_command
from raylight.models.build import class_logits
from raylight.models.preprocessing import Preprocessing
from raylight.models.stages import StagedNetwork
from raylight.serving.predictor import Predictor, UnusableRunError
from raylight.storage.atomic import atomic_file, check_output

TOLERANCE = 1e-4
"""Largest difference of a probability from the run's own in float32."""

CHECKED_IMAGES = 32
"""Maximum number of images that an export is checked on."""

METADATA_FILE = "raylight.json"
"""Name of the metadata among a ``torch.export`` file's extra files."""

Runtime = Callable[[UInt8[np.ndarray, "batch height width 3"]], Float[np.ndarray, "batch class"]]


class ServedNetwork(nn.Module):
    """The exported module: from pixels to calibrated probabilities.

    Args:
        network: in eval mode.
        preprocessing: of the pixels.
        temperature: of the calibration.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: StagedNetwork, preprocessing: Preprocessing, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        deviation = torch.tensor(preprocessing.std).reshape(1, 3, 1, 1)
        self.register_buffer("scale", 1 / (255 * deviation))
        self.register_buffer("shift", -torch.tensor(preprocessing.mean).reshape(1, 3, 1, 1) / deviation)

    def forward(self, images: UInt8[Tensor, "batch height width 3"]) -> Float[Tensor, "batch class"]:
        """Compute the probability of each class, float32."""
        values = images.permute(0, 3, 1, 2).to(torch.float32) * self.scale + self.shift
        logs = torch.log_softmax(class_logits(self.network(values)), dim=1)
        # As in evaluation.calibration: the smallest probability is the smallest normal float32.
        logs = logs.clamp(min=math.log(torch.finfo(torch.float32).tiny))
        return torch.softmax(logs / self.temperature, dim=1)


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        suffix: file extension.
        modules: packages that are needed to write and check a file.
        write: writes a network with its metadata.
        open: loads the file with the runtime that its users have.
    """

    suffix: str
    modules: tuple[str, ...]
    write: Callable[[ServedNetwork, tuple[int, int], dict[str, str], Path], None]
    open: Callable[[Path], Runtime]


def export_run(run: Path, format: str, out: Path | None) -> int:  # noqa: A002 - the command's option
    """Write a run's model into one file and check it against the run.

    The file's input ``images`` is uint8[batch, height, width, 3], RGB, of the model's size and any batch; its output
    ``probabilities`` is float32[batch, class], calibrated. Metadata: ``class_names``, ``positive_class``,
    ``threshold``, ``abstain`` (where the run abstains: the confidence from which on it answers), ``size``, ``resize``,
    ``resize_size``, ``interpolation``, ``run``.

    Args:
        run: a finished run's folder.
        format: ``onnx`` or ``torch_export``.
        out: the file; ``None`` writes ``model.onnx`` or ``model.pt2`` into the run folder.

    Returns:
        0.

    Raises:
        RaylightError: the run can't be used, there is no such format, a package is missing, the network has something
            in it that the format can't hold, or the file's probabilities differ from the run's by more than
            ``TOLERANCE``. Then there is no file, and one of that name from before is left alone.
        OSError: the file can't be written.
    """
    if format not in FORMATS:
        hint = did_you_mean(format, FORMATS)
        raise ConfigError([f"--format: there is no format {format!r}{hint}; the formats are {', '.join(FORMATS)}"])
    kind = FORMATS[format]
    _require(kind.modules, format)
    predictor = Predictor.open(run, precision="fp32")
    path = out or predictor.run / f"model{kind.suffix}"
    if out is None:
        check_output("RUN", path, is_folder=False, remedy="name a file elsewhere: --out FILE")
    images, which = _check_images(predictor)
    served = ServedNetwork(predictor.network, predictor.preprocessing, predictor.temperature).eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, kind.suffix) as temporary:  # the ending is kept: torch.export looks at it
        try:
            with _silent():
                kind.write(served, height_width(predictor.preprocessing.size), _metadata(predictor), temporary)
                runtime = kind.open(temporary)
                # One image and many: a batch size that exporting took for a constant shows here.
                given = np.concatenate([runtime(images[:1]), runtime(images[1:])])
        except Exception as error:  # exporters and runtimes refuse with exceptions of every kind
            raise RaylightError(
                f"{predictor.config.model.name} can't be exported as {format} ({type(error).__name__}: {first_line(error)})"
            ) from error
        difference = float(np.abs(given - predictor.probabilities(images)).max())
        if not difference <= TOLERANCE:
            raise RaylightError(
                f"The {format} file gives other probabilities than the run, by up to {difference:.2g} on {which}; "
                f"{TOLERANCE:.0e} is allowed. It was not kept."
            )
    print(  # noqa: T201 - the command's result
        f"{path}: {path.stat().st_size / 1e6:.1f} MB; probabilities within {difference:.1e} of the run's on {which}"
    )
    return 0


def _require(modules: tuple[str, ...], format: str) -> None:  # noqa: A002
    import importlib

    missing = []
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            missing.append(module)
    if missing:
        raise RaylightError(
            f"--format={format} needs {', '.join(missing)}, which isn't here: {install_command('export')}"
        )


def _metadata(predictor: Predictor) -> dict[str, str]:
    """What a user of the file must know besides its weights, as JSON values."""
    facts = {
        "class_names": list(predictor.class_names),
        "positive_class": predictor.positive_class,
        "threshold": predictor.threshold,
        **({"abstain": predictor.confidence} if predictor.abstains else {}),
        "size": predictor.preprocessing.size,
        "resize": predictor.preprocessing.resize,
        "resize_size": predictor.preprocessing.decode_spec.shorter_side,
        "interpolation": predictor.preprocessing.interpolation,
        "fill": predictor.preprocessing.decode_spec.fill,
        "run": predictor.run.path.name,
    }
    return {name: json.dumps(value) for name, value in facts.items()}


def _check_images(predictor: Predictor) -> tuple[UInt8[np.ndarray, "image height width 3"], str]:
    """Test images of the run if they are available, else noise; and which of the two, in words."""
    from raylight.data.decode.engines import decode_files

    spec = predictor.preprocessing.decode_spec
    try:
        index = predictor.test_images()
        index = index.select(np.unique(np.linspace(0, len(index) - 1, min(len(index), CHECKED_IMAGES)).astype(int)))
        paths = [index.root / str(path) for path in index.column("path")]
    except UnusableRunError:
        paths = []
    blocks = decode_files(paths, spec)
    pixels = [block.pixels for block in blocks if len(block.pixels)]
    if sum(map(len, pixels)) > 1:
        images = np.concatenate(pixels)
        return images, f"{len(images)} of its test images"
    noise = np.random.default_rng(0).integers(0, 256, (CHECKED_IMAGES, *spec.image_shape), dtype=np.uint8)
    return noise, f"{len(noise)} random images, since its test images are no longer there"


def _silent() -> Any:
    """Exporters print a lot; errors are raised."""
    import contextlib
    import io
    import warnings

    stack = contextlib.ExitStack()
    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
    stack.enter_context(warnings.catch_warnings())
    warnings.simplefilter("ignore")
    return stack


def _exported(served: ServedNetwork, size: tuple[int, int]) -> torch.export.ExportedProgram:
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, *size, 3, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(served, (example,), dynamic_shapes={"images": {0: torch.export.Dim("batch")}})


def _write_onnx(served: ServedNetwork, size: tuple[int, int], metadata: dict[str, str], path: Path) -> None:
    import onnx

    program: Any = torch.onnx.export(
        _exported(served, size), input_names=["images"], output_names=["probabilities"], dynamo=True, verbose=False
    )
    model = program.model_proto
    onnx.helper.set_model_props(model, metadata)
    _name_batch_axis(model.graph)
    onnx.save_model(model, str(path))


def _name_batch_axis(graph: Any) -> None:
    """Call the batch axis ``batch``; torch's exporter calls it by a symbol of its own, such as ``s34``."""
    symbol = graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for value in (*graph.input, *graph.value_info, *graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = re.sub(rf"\b{re.escape(symbol)}\b", "batch", axis.dim_param)


def _open_onnx(path: Path) -> Runtime:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(images: UInt8[np.ndarray, "batch height width 3"]) -> Float[np.ndarray, "batch class"]:
        return np.asarray(session.run(["probabilities"], {"images": images})[0])

    return run


def _write_torch_export(served: ServedNetwork, size: tuple[int, int], metadata: dict[str, str], path: Path) -> None:
    facts = {name: json.loads(value) for name, value in metadata.items()}
    torch.export.save(_exported(served, size), path, extra_files={METADATA_FILE: json.dumps(facts)})


def _open_torch_export(path: Path) -> Runtime:
    module = torch.export.load(path).module()

    def run(images: UInt8[np.ndarray, "batch height width 3"]) -> Float[np.ndarray, "batch class"]:
        with torch.inference_mode():
            return np.asarray(module(torch.from_numpy(images)).numpy())

    return run


FORMATS = {
    "onnx": Format(".onnx", ("onnx", "onnxruntime", "onnxscript"), _write_onnx, _open_onnx),
    "torch_export": Format(".pt2", (), _write_torch_export, _open_torch_export),
}
"""What can be exported to."""
