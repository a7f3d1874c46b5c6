"""Each format takes images of any size, and names what it gives."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from raylight.serving.exports.formats import FORMATS, Export
from raylight.serving.exports.network import ServedNetwork
from raylight.serving.exports.resizing import Resize
from raylight.serving.predictor import Predictor


@pytest.fixture
def export(untrained: Callable[..., Path]) -> Export:
    predictor = Predictor.open(untrained(("a", "b", "c"), resize="crop", interpolation="bicubic"), precision="fp32")
    return Export(ServedNetwork(predictor, "cykooz").eval(), {"class_names": ["a", "b", "c"]})


@pytest.mark.parametrize("kind", ["onnx", "torch_export"])
def test_a_file_takes_images_of_any_size(export: Export, kind: str, tmp_path: Path) -> None:
    file = tmp_path / f"model{FORMATS[kind].suffix}"
    FORMATS[kind].write(export, file)
    opened = FORMATS[kind].open(file)
    resize = export.network.resize
    assert isinstance(resize, Resize)
    rng = np.random.default_rng(0)
    for size in [(1, 24, 24), (3, 25, 61), (2, 400, 33), (1, 7, 2)]:
        images = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        found = opened(images)
        assert list(found) == ["probabilities", "pixels"]
        assert found["probabilities"].shape == (size[0], 3)
        wanted = resize(torch.from_numpy(images)).permute(0, 2, 3, 1).numpy()
        apart = np.abs(found["pixels"].astype(int) - wanted)
        assert (apart.max() <= 1, apart.mean() < 1e-3) == (True, True), size
    if kind == "onnx":
        check_description(file)


def check_description(file: Path) -> None:
    """The axes of unknown length have names, and all operators are those that runtimes agree about."""
    onnx.checker.check_model(str(file), full_check=True)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    assert (given.name, given.shape, given.type) == ("images", ["batch", "height", "width", 3], "tensor(uint8)")
    assert [output.shape for output in session.get_outputs()] == [["batch", 3], ["batch", 24, 24, 3]]
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == ["a", "b", "c"]
    assert "Resize" not in {node.op_type for node in onnx.load(file).graph.node}
