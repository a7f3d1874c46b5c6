import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import Result

from raylight.evaluation.differences.non_inferiority import non_inferiority
from raylight.serving.exports import int8
from raylight.serving.exports.formats import open_onnx
from raylight.serving.predictor import Predictor


def test_the_file_computes_in_int8_and_carries_its_certificate(
    copied_run: Path, raylight: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "non_inferiority", lambda *given: replace(non_inferiority(*given), margin=0.5))
    done = raylight("export", copied_run, "--precision", "int8")
    assert done.exit_code == 0, done.output
    assert "int8: on 16 validation images" in done.output
    model = onnx.load(copied_run / "model.onnx")
    facts = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert facts["int8"]["n"] == 16
    assert facts["precision"] == "int8"
    assert len(facts["class_names"]) == 2
    weights = {entry.name: entry.data_type for entry in model.graph.initializer}
    quantised = [node for node in model.graph.node if node.op_type == "DequantizeLinear"]
    assert sum(weights.get(node.input[0]) == onnx.TensorProto.INT8 for node in quantised) == 2  # cnn2's convolutions

    predictor = Predictor.open(copied_run, "fp32")
    images = np.random.default_rng(0).integers(0, 256, (3, 50, 61, 3), np.uint8)
    found = open_onnx(copied_run / "model.onnx")(images)
    exact = predictor.probabilities(found["pixels"])
    assert 0 < np.abs(found["probabilities"] - exact).max() < 0.05


def test_a_loss_that_is_not_excluded_leaves_no_file(copied_run: Path, raylight: Callable[..., Result]) -> None:
    done = raylight("export", copied_run, "--precision", "int8", "--prepared")
    assert done.exit_code == 1
    assert "int8 is refused: on 16 validation images" in done.output
    assert not (copied_run / "model.onnx").exists()


def test_only_onnx_files_are_in_int8(copied_run: Path, raylight: Callable[..., Result]) -> None:
    done = raylight("export", copied_run, "--precision", "int8", "--format", "torch_export")
    assert done.exit_code == 2
    assert "with --format onnx also in int8" in done.output
