"""The formats of exports: how a file is written, and how the runtime of its users opens it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt8

from raylight.serving.exports.network import ServedNetwork
from raylight.serving.exports.web import model_of_page, write_page
from raylight.serving.exports.web_runtime import WebRuntime

METADATA_FILE = "raylight.json"
"""Name of the metadata among a ``torch.export`` file's extra files."""

Outputs = Mapping[str, Shaped[np.ndarray, "batch ..."]]
"""What a file computes, by name."""

Runtime = Callable[[UInt8[np.ndarray, "batch height width 3"]], Outputs]


@dataclass(frozen=True, eq=False)
class Export:
    """What is written into a file.

    Attributes:
        network: in eval mode.
        metadata: what a user of the file must know besides, as JSON values.
        web_runtime: what runs the model in a browser; ``None`` for other formats.
    """

    network: ServedNetwork
    metadata: Mapping[str, Any]
    web_runtime: WebRuntime | None = None


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        suffix: file extension.
        modules: packages that are needed to write and check a file.
        write: writes an export into a file.
        open: loads the file with the runtime that its users have.
    """

    suffix: str
    modules: tuple[str, ...]
    write: Callable[[Export, Path], None]
    open: Callable[[Path], Runtime]


def _program(network: ServedNetwork) -> torch.export.ExportedProgram:
    # Two images: a batch of one would be taken for a constant.
    example = torch.zeros(2, *network.size, 3, dtype=torch.uint8)
    axes = ["batch"] if network.resize is None else ["batch", "height", "width"]
    sizes = {axis: torch.export.Dim(name) for axis, name in enumerate(axes)}
    with torch.no_grad():
        return torch.export.export(network, (example,), dynamic_shapes={"images": sizes})


def _onnx_model(export: Export) -> Any:
    import onnx

    names = list(export.network.outputs)
    program: Any = torch.onnx.export(
        _program(export.network), input_names=["images"], output_names=names, dynamo=True, verbose=False
    )
    model = program.model_proto
    onnx.helper.set_model_props(model, {name: json.dumps(value) for name, value in export.metadata.items()})
    _name_axes(model.graph)
    return model


def _name_axes(graph: Any) -> None:
    """Call the axes of unknown length by their names; torch's exporter calls them by symbols of its own, such as ``s34``."""
    axes = zip(graph.input[0].type.tensor_type.shape.dim, ("batch", "height", "width"), strict=False)
    names = {axis.dim_param: name for axis, name in axes if axis.dim_param}
    for value in (*graph.input, *graph.value_info, *graph.output):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param:
                axis.dim_param = re.sub(r"\w+", lambda word: names.get(word[0], word[0]), axis.dim_param)


def _write_onnx(export: Export, path: Path) -> None:
    import onnx

    onnx.save_model(_onnx_model(export), str(path))


def open_onnx(model: Path | bytes) -> Runtime:
    """Load an ONNX file, or its content, with ONNX Runtime."""
    import onnxruntime

    given = model if isinstance(model, bytes) else str(model)
    session = onnxruntime.InferenceSession(given, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def _write_torch_export(export: Export, path: Path) -> None:
    facts = {**export.metadata, "outputs": export.network.outputs}
    torch.export.save(_program(export.network), path, extra_files={METADATA_FILE: json.dumps(facts)})


def _open_torch_export(path: Path) -> Runtime:
    extra = {METADATA_FILE: ""}
    module = torch.export.load(path, extra_files=extra).module()
    names = json.loads(extra[METADATA_FILE])["outputs"]

    def run(images: UInt8[np.ndarray, "batch height width 3"]) -> Outputs:
        with torch.inference_mode():
            found = module(torch.from_numpy(images))
        return {name: values.numpy() for name, values in zip(names, found, strict=True)}

    return run


def _write_web(export: Export, path: Path) -> None:
    assert export.web_runtime is not None
    write_page(_onnx_model(export).SerializeToString(), export.metadata, export.web_runtime, path)


ONNX_MODULES = ("onnx", "onnxruntime", "onnxscript")

FORMATS = {
    "onnx": Format(".onnx", ONNX_MODULES, _write_onnx, open_onnx),
    "torch_export": Format(".pt2", (), _write_torch_export, _open_torch_export),
    "web": Format(".html", ONNX_MODULES, _write_web, lambda page: open_onnx(model_of_page(page))),
}
"""What can be exported to."""
