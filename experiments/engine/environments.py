"""A Python environment per engine, made once under a cache folder, so that the project's own isn't touched."""

import subprocess
import sys
import sysconfig
from pathlib import Path

PACKAGES = {
    "openvino": ("openvino", "nncf", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx", "sympy"),
    "torchao": ("torchao",),
}
"""What an engine needs; those that aren't named run in the project's environment."""

ON_PROJECTS_TORCH = ("torchao",)
"""Environments that see the project's packages behind their own."""


def python_of(backend: str, cache: Path) -> Path:
    """The interpreter that has an engine; its environment is made if it isn't there."""
    if backend not in PACKAGES:
        return Path(sys.executable)
    folder = cache / backend
    python, ready = folder / "bin" / "python", folder / "ready"
    if not ready.is_file():
        uv = Path(sys.executable).with_name("uv")
        no_deps = ["--no-deps"] if backend in ON_PROJECTS_TORCH else []
        subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, folder], check=True)
        install = [uv, "pip", "install", "--quiet", "--python", python, *no_deps, *PACKAGES[backend]]
        subprocess.run(install, check=True)
        if backend in ON_PROJECTS_TORCH:
            packages = next(folder.glob("lib/python*/site-packages"))
            (packages / "project.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
        ready.touch()
    return python


def version_of(backend: str, python: Path) -> str:
    """The engine's version."""
    package = {"raylight": "raylight", "torch.compile": "torch"}.get(backend, backend)
    command = [python, "-c", f"from importlib.metadata import version; print(version({package!r}))"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
