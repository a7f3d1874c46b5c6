"""Networks as each inference engine runs them: from uint8 pixels to probabilities, one batch per call.

Every builder takes a ``Task`` and returns a function that makes a runner for one worker thread; a runner takes
uint8[batch, height, width, 3] and returns float32[batch, class]. All run the same module (``served.Served``):
normalisation, network and softmax. Imports are inside the builders, since each environment has only its own engine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Runner = Callable[[np.ndarray], np.ndarray]
MakeRunner = Callable[[], Runner]


@dataclass(frozen=True)
class Task:
    """What is measured.

    Attributes:
        folder: holds ``served.pt``, the torch module, and ``served.onnx``, the same exported.
        precision: ``fp32``, ``bf16`` or ``int8``.
        threads: worker threads, each of which computes alone.
        batch: images per call.
        calibration: pixels from which int8 takes the ranges of activations; none of them is measured.
    """

    folder: Path
    precision: str
    threads: int
    batch: int
    calibration: np.ndarray


def raylight_engine(task: Task) -> MakeRunner:
    """Our own engine, one thread per runner; its logits become probabilities as in ``raylight predict``."""
    import torch

    from raylight.cpu.engine import InferenceEngine, Int8
    from raylight.models.build import class_probabilities

    served = _torch_module(task)
    network, preprocessing, precision = served.network, served.preprocessing, task.precision
    if precision == "int8":
        precision = Int8.measured_on(network, preprocessing, task.calibration)
    engine = InferenceEngine(network, 0, None, preprocessing, precision=precision, threads=1)
    engine.micro_batch = task.batch
    program = engine._program(task.calibration.shape[1:])

    def run(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return class_probabilities(program(images, np.arange(len(images))).numpy()).astype(np.float32)

    return lambda: run


def torch_compile(task: Task) -> MakeRunner:
    """``torch.compile`` with frozen weights, channels last, autocast for bf16."""
    import torch
    import torch._inductor.config as inductor

    inductor.freezing = True
    served = _torch_module(task)
    served = served.to(memory_format=torch.channels_last)
    bf16 = task.precision == "bf16"

    def compute(images: Any) -> Any:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return served(images)

    return _compiled(torch.compile(compute), task)


def torchao(task: Task) -> MakeRunner:
    """Static int8 quantisation with torchao's quantizer for x86, compiled by inductor."""
    import torch
    import torch._inductor.config as inductor
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e import move_exported_model_to_eval
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    inductor.freezing = True
    served = _torch_module(task)
    example = (torch.from_numpy(task.calibration[: task.batch]),)
    with torch.no_grad():
        exported = torch.export.export(served, example).module()
        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config())
        prepared = prepare_pt2e(exported, quantizer)
        for begin in range(0, len(task.calibration) - task.batch + 1, task.batch):
            prepared(torch.from_numpy(task.calibration[begin : begin + task.batch]))
        converted = convert_pt2e(prepared)
        move_exported_model_to_eval(converted)
    return _compiled(torch.compile(converted), task)


def onnxruntime(task: Task) -> MakeRunner:
    """ONNX Runtime; int8 by its static quantisation, unsigned activations, weights per channel."""
    import onnxruntime as ort

    path = task.folder / "served.onnx"
    if task.precision == "int8":
        path = _quantised_onnx(task)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return lambda: lambda images: session.run(["probabilities"], {"images": images})[0]


def openvino(task: Task) -> MakeRunner:
    """OpenVINO, a stream per worker thread; int8 by NNCF's quantisation after training."""
    import openvino as ov
    import openvino.properties as properties
    import openvino.properties.hint as hints

    core = ov.Core()
    model = core.read_model(task.folder / "served.onnx")
    if task.precision == "int8":
        import nncf

        dataset = nncf.Dataset([image[None] for image in task.calibration])
        model = nncf.quantize(model, dataset, subset_size=len(task.calibration))
    model.reshape([task.batch, *task.calibration.shape[1:]])
    settings = {
        hints.inference_precision: ov.Type.bf16 if task.precision == "bf16" else ov.Type.f32,
        properties.inference_num_threads: task.threads,
        properties.num_streams: task.threads,
    }
    compiled = core.compile_model(model, "CPU", settings)

    def make() -> Runner:
        request = compiled.create_infer_request()
        return lambda images: np.array(request.infer([images], share_inputs=True)[0])

    return make


def _torch_module(task: Task) -> Any:
    import torch

    torch.set_num_threads(1)
    return torch.load(task.folder / "served.pt", weights_only=False)


def _compiled(module: Any, task: Task) -> MakeRunner:
    import torch

    with torch.no_grad():
        module(torch.from_numpy(task.calibration[: task.batch]))

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(images)).float().numpy()

    def make() -> Runner:
        torch.set_num_threads(1)
        return run

    return make


def _quantised_onnx(task: Task) -> Path:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(task.calibration)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"images": image[None]}

    prepared, path = task.folder / f"prepared-{task.threads}.onnx", task.folder / f"int8-{task.threads}.onnx"
    if not path.is_file():
        quant_pre_process(task.folder / "served.onnx", prepared, skip_symbolic_shape=True)
        convolutions = {node.op_type for node in onnx.load(prepared).graph.node} & {"Conv", "Add", "Gemm", "MatMul"}
        quantize_static(
            prepared,
            path,
            Reader(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=sorted(convolutions | {"Relu", "Clip", "GlobalAveragePool", "MaxPool"}),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    return path


BUILDERS: dict[str, Callable[[Task], MakeRunner]] = {
    "raylight": raylight_engine,
    "openvino": openvino,
    "onnxruntime": onnxruntime,
    "torch.compile": torch_compile,
    "torchao": torchao,
}
