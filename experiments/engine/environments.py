"""Which environment each engine runs in."""

from pathlib import Path

from experiments.environments import Environment

from experiments import environments

ENVIRONMENTS = {
    "openvino": Environment("openvino", ("openvino", "nncf", "onnx")),
    "onnxruntime": Environment("onnxruntime", ("onnxruntime", "onnx", "sympy")),
    "torchao": Environment("torchao", ("torchao",), on_project=True),
}
"""Those of engines that aren't named here: the project's."""


def python_of(backend: str, cache: Path) -> Path:
    """The interpreter that has an engine; its environment is made if it isn't there."""
    return ENVIRONMENTS.get(backend, Environment(backend)).interpreter(cache)


def version_of(backend: str, python: Path) -> str:
    """The engine's version."""
    return environments.version_of({"torch.compile": "torch"}.get(backend, backend), python)
