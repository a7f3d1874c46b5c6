import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raylight.errors import ConfigError
from raylight.serving.versions.opening import Version


def test_precisions_are_named(run: Path, raylight: Callable[..., Result]) -> None:
    done = raylight("predict", run, run, "--precision", "int4")
    assert done.exit_code == 2
    assert "--precision: there is no 'int4'" in done.output
    assert Version("fp32").open(run).precision == "fp32"


def test_engines_are_named(run: Path, raylight: Callable[..., Result], monkeypatch: pytest.MonkeyPatch) -> None:
    done = raylight("predict", run, run, "--engine", "openvin")
    assert done.exit_code == 2
    assert "--engine: there is no 'openvin'; did you mean 'openvino'?; it is raylight or openvino" in done.output
    with pytest.raises(ConfigError, match="OpenVINO computes in fp32 or bf16"):
        Version("int8", "openvino").open(run)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"OpenVINO isn't installed; install it with: .*\[openvino\]"):
        Version(engine="openvino").open(run)
